#!/usr/bin/env bash
# Rolls a release out anew while people ride, and fails if one of their rides does:
#
#   deploy/tests/upgrade.sh RELEASE
#
# For a cluster that has the images taxi:0.1.0 and taxi:next, such as the one of the helm workflow.
# Needs kubectl, jq and .tools/bin/helm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly release=$1 load=$1-load
helm=.tools/bin/helm

# The pod of `helm test`, but for many rides: about 200 a minute for as long as a rollout takes.
"$helm" get hooks "$release" | kubectl create --dry-run=client --output json --filename - |
    jq --arg name "$load" '(.items[]? // .) | select(.kind == "Pod")
        | .metadata = {name: $name, namespace: .metadata.namespace, labels: .metadata.labels}
        | .spec.activeDeadlineSeconds = 1800
        | .spec.containers[0].args |= (map(select(. as $it | ["--rides", "--riders", "--drivers", "1"] | index($it) | not))
            + ["--rides", "800", "--riders", "40", "--drivers", "30"])' |
    kubectl create --filename -
kubectl wait --for=condition=Ready "pod/$load" --timeout=2m

"$helm" upgrade "$release" deploy/helm/taxi --reuse-values --set image.tag=next --wait --timeout 10m
# Everything at once is the worst that a rollout can be; one after another is the usual.
kubectl rollout restart deployment --selector "app.kubernetes.io/instance=$release"
kubectl rollout status deployment --selector "app.kubernetes.io/instance=$release" --timeout=10m

kubectl wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$load" --timeout=20m ||
    { kubectl logs "$load"; exit 1; }
kubectl logs "$load"
kubectl delete pod "$load"
