#!/usr/bin/env bash
# Rolls a release out anew and back while people ride, and fails if a ride or a call of theirs does:
#
#   deploy/tests/upgrade.sh RELEASE
#
# RELEASE is an evaluation with the chart and the image of the release before, on a cluster that has the
# image taxi:next as well, such as the one of the helm workflow. Needs kubectl, jq and .tools/bin/helm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly release=$1 load=$1-load
helm=.tools/bin/helm

of_load() { kubectl get pod "$load" --output "jsonpath={$1}"; }

# The pod of `helm test`, but for many rides: at most 200 a minute, for longer than all rollouts take.
"$helm" get hooks "$release" | kubectl create --dry-run=client --output json --filename - |
    jq --arg name "$load" '(.items[]? // .) | select(.kind == "Pod")
        | .metadata = {name: $name, namespace: .metadata.namespace, labels: .metadata.labels}
        | .spec.activeDeadlineSeconds = 2700
        | .spec.containers[0].args |= (map(select(. as $it | ["--rides", "--riders", "--drivers", "1"] | index($it) | not))
            + ["--rides", "1600", "--riders", "40", "--drivers", "30", "-o", "jsonl"])' |
    kubectl create --filename -
kubectl wait --for=condition=Ready "pod/$load" --timeout=2m

"$helm" upgrade "$release" deploy/helm/taxi --reset-then-reuse-values --set image.tag=next --wait --timeout 10m
# Everything at once is the worst that a rollout can be; one after another is the usual.
kubectl rollout restart deployment --selector "app.kubernetes.io/instance=$release"
kubectl rollout status deployment --selector "app.kubernetes.io/instance=$release" --timeout=10m
"$helm" rollback "$release" --wait --timeout 10m
[ "$(of_load .status.phase)" = Running ] || { echo "the load did not last as long as the rollouts"; kubectl logs "$load"; exit 1; }

kubectl wait --for=jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}' "pod/$load" --timeout=40m
kubectl logs "$load"
[ "$(of_load '.status.containerStatuses[0].state.terminated.exitCode')" = 0 ]
kubectl logs "$load" | jq --raw-input --null-input --exit-status \
    '[inputs | fromjson? | objects | select(has("calls_failed"))] | length == 1 and .[0].calls_failed == 0' > /dev/null ||
    { echo "calls failed, or nobody has counted them"; exit 1; }
kubectl delete pod "$load"
