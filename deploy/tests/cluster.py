#!/usr/bin/env python3
"""What an API server makes of the chart: installed, upgraded, rolled back and removed for real.

    .tools/bin/python -B deploy/tests/cluster.py

Works on the cluster that kubectl points at, in a namespace of its own that is gone in the end. The
cluster needs nodes, volumes and the images taxi:previous and taxi:next, of the release before and of this
one. Simulated nodes do as well, because nothing here looks at what runs in a pod: for that there are
`helm test` and upgrade.sh.
"""

import base64
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from chart import CHART, LONGEST_NAME, ROOT, Failure, helm, insist, objects, render, run, value_sets

NAMESPACE = "taxi-check"
WAIT = ["--wait", "--timeout", "10m"]
# What an upgrade must leave as it is, and what a release leaves behind when it goes.
LASTING = "deployments,statefulsets,services,persistentvolumeclaims,secrets"
LEFT = "deployments,statefulsets,jobs,services,configmaps,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,serviceaccounts,secrets,persistentvolumeclaims"


def kubectl(*words: str) -> str:
    return run("kubectl", "--namespace", NAMESPACE, *words)


def feed(text: str, *words: str) -> str:
    command = ["kubectl", "--namespace", NAMESPACE, *words, "--filename", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    return done.stdout


def get(kinds: str, release: str = "") -> list[dict]:
    selector = ["--selector", f"app.kubernetes.io/instance={release}"] if release else []
    return json.loads(kubectl("get", kinds, "--output", "json", *selector))["items"]


def one(kind: str, name: str) -> dict:
    return json.loads(kubectl("get", kind, name, "--output", "json"))


def release(action: str, name: str, *words: str | Path, chart: Path = CHART) -> str:
    """Does it with a release. One is installed with the image of the release before."""
    image = {"install": ["--set", "image.tag=previous"], "upgrade": ["--set", "image.tag=next"]}
    what = [chart, *image[action]] if action in image else []
    return helm(action, name, *what, "--namespace", NAMESPACE, *words)


def is_refused(expected: str, action: object) -> None:
    """That it fails, and says this."""
    try:
        action()
    except Failure as failure:
        if expected not in str(failure):
            raise Failure(f"expected: {expected}\nbut: {failure}") from None
    else:
        raise Failure(f"it is accepted, instead of: {expected}")


def known(text: str) -> list[dict]:
    """The objects whose kind this cluster has: Gateway API and Prometheus' operator may be missing."""
    return [it for it in objects(text) if it["kind"] in kinds()]


@functools.cache
def kinds() -> set[str]:
    return {line.split()[-1] for line in kubectl("api-resources", "--no-headers").splitlines()}


def foreign_kinds_off() -> list[str]:
    """Settings that leave out what this cluster does not know."""
    switches = {"HTTPRoute": "gatewayApi.httpRoute", "GRPCRoute": "gatewayApi.grpcRoute", "PodMonitor": "monitoring.podMonitor", "PrometheusRule": "monitoring.prometheusRule"}
    return [word for kind, key in switches.items() if kind not in kinds() for word in ("--set", f"{key}.enabled=false")]


def identities(name: str) -> dict[str, str]:
    """What lasts, each with what tells it from another of the same name."""
    told = lambda it: [it["metadata"]["uid"], it.get("data"), it.get("spec", {}).get("selector")]
    return {f"{it['kind']} {it['metadata']['name']}": json.dumps(told(it)) for it in get(LASTING, name)}


def migrations(name: str) -> dict[str, str]:
    return {it["metadata"]["name"]: it["metadata"]["uid"] for it in get("jobs", name)}


def generations(name: str) -> dict[str, str]:
    return {it["metadata"]["name"]: str(it["metadata"]["generation"]) for it in get("deployments", name)}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [f"{key} is gone, or another one" for key in before if before[key] != after.get(key)]


def remove(name: str) -> None:
    release("uninstall", name, *WAIT)
    kubectl("delete", "pods,secrets,persistentvolumeclaims", "--selector", f"app.kubernetes.io/instance={name}")


# ---- checks ---------------------------------------------------------------------------------


def value_sets_are_accepted() -> None:
    """By the API server, all fields known and Pod Security content, so that it does not even warn."""
    for values in value_sets():
        # A pod alone wants its service account, which is not there in a dry run.
        accepted = [it for it in known(render(values)) if it["kind"] != "Pod"]
        for it in accepted:
            it["metadata"]["namespace"] = NAMESPACE
        feed(yaml.safe_dump_all(accepted), "create", "--dry-run=server", "--validate=strict", "--warnings-as-errors")


def mistakes_are_refused() -> None:
    for values in sorted((CHART / "ci/bad").glob("*.yaml")):
        expected = values.read_text().splitlines()[0].removeprefix("# ")
        is_refused(expected, lambda: helm("install", "taxi", CHART, "--namespace", NAMESPACE, "--values", values))
    if left := [it["metadata"]["name"] for it in get(LEFT, "taxi") + get("secrets")]:
        raise Failure(f"a mistake leaves {left}")


def the_release_before_is_upgraded_and_rolled_back_to() -> None:
    with tempfile.TemporaryDirectory() as before:
        run(ROOT / "tools/previous.sh", before, CHART.relative_to(ROOT))
        release("install", "taxi", *WAIT, chart=Path(before) / CHART.relative_to(ROOT))
    release("test", "taxi", "--timeout", "5m")
    first, jobs = identities("taxi"), migrations("taxi")
    release("upgrade", "taxi", *WAIT)
    insist(changed(first, identities("taxi")))
    if not migrations("taxi") or migrations("taxi").keys() & jobs.keys():
        raise Failure(f"{migrations('taxi')} after an upgrade from {jobs}")
    release("rollback", "taxi", *WAIT)
    insist(changed(first, identities("taxi")))
    if migrations("taxi").keys() != jobs.keys():
        raise Failure(f"{migrations('taxi')} after a rollback to {jobs}")


def an_upgrade_to_the_same_changes_nothing() -> None:
    """After the last check."""
    release("upgrade", "taxi", *WAIT)
    before = [ask("taxi") for ask in (identities, migrations, generations)]
    release("upgrade", "taxi", *WAIT)
    for asked, ask in zip(before, (identities, migrations, generations)):
        insist(changed(asked, ask("taxi")))


def it_leaves_its_data_and_finds_it_again() -> None:
    """After the last check."""
    url = lambda: base64.b64decode(one("secret", "taxi-database-driving")["data"]["url"])
    before = url()
    release("uninstall", "taxi", *WAIT)
    left = {it["kind"] for it in get(LEFT, "taxi")}
    if left != {"Secret", "PersistentVolumeClaim"}:
        raise Failure(f"it leaves {left}")
    release("install", "taxi", *WAIT)
    if url() != before:
        raise Failure("another password than the one that the volume knows")
    remove("taxi")


def two_releases_keep_apart() -> None:
    names = [LONGEST_NAME, LONGEST_NAME[:-1] + "x"]
    for name in names:
        release("install", name, *WAIT)
    for name in names:
        own = {it["metadata"]["name"] for it in get("pods", name)}
        for it in get("endpointslices.discovery.k8s.io", name):
            pods = {end["targetRef"]["name"] for end in it["endpoints"] or []}
            if not pods or pods - own:
                raise Failure(f"{it['metadata']['name']} leads to {pods or 'nobody'}")
    for name in names:
        remove(name)


def production_is_installed() -> None:
    """Its pods wait for databases that are nowhere; the objects are there, and stay the same."""
    values = ["--values", CHART / "ci/production.yaml", *foreign_kinds_off()]
    release("install", "taxi", *values)
    first = identities("taxi")
    release("upgrade", "taxi", *values)
    insist(changed(first, identities("taxi")))
    release("rollback", "taxi")
    insist(changed(first, identities("taxi")))
    remove("taxi")


def it_can_be_applied() -> None:
    """By tools that render and apply, as often as they like."""
    values = CHART / "ci/production.yaml"
    own = [it for it in known(render(values)) if it["kind"] != "Pod"]
    for it in own:
        it["metadata"]["namespace"] = NAMESPACE
    text = yaml.safe_dump_all(own)
    apply = lambda: feed(text, "apply", "--server-side", "--field-manager=deployer")
    apply()
    before = generations("taxi")
    apply()
    insist(changed(before, generations("taxi")))
    feed(text, "delete", "--wait=true")


def replicas_are_handed_over() -> None:
    """As docs/operations.md says: to the autoscaler without going to one, and back by force."""
    autoscaling = ["--set", "services.driving.replicas=3", "--set", "services.driving.autoscaling.enabled=true"]
    release("install", "taxi", "--set", "services.driving.replicas=3")
    only = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "taxi-driving"}, "spec": {"replicas": 3}}
    feed(json.dumps(only), "apply", "--server-side", "--field-manager=autoscaling")
    release("upgrade", "taxi", *autoscaling)
    if (replicas := one("deployment", "taxi-driving")["spec"]["replicas"]) < 3:
        raise Failure(f"{replicas} replicas when the autoscaler takes over")

    kubectl("scale", "deployment", "taxi-driving", "--replicas=5")
    fixed = lambda *words: release("upgrade", "taxi", "--set", "services.driving.replicas=2", *words)
    is_refused(".spec.replicas", fixed)
    fixed("--force-conflicts")
    if (replicas := one("deployment", "taxi-driving")["spec"]["replicas"]) != 2:
        raise Failure(f"{replicas} replicas by force")
    remove("taxi")


CHECKS = [
    value_sets_are_accepted,
    mistakes_are_refused,
    the_release_before_is_upgraded_and_rolled_back_to,
    an_upgrade_to_the_same_changes_nothing,
    it_leaves_its_data_and_finds_it_again,
    two_releases_keep_apart,
    production_is_installed,
    it_can_be_applied,
    replicas_are_handed_over,
]


def main() -> int:
    run("kubectl", "create", "namespace", NAMESPACE)
    try:
        for mode in ("enforce", "warn"):
            run("kubectl", "label", "namespace", NAMESPACE, f"pod-security.kubernetes.io/{mode}=restricted")
        for passed, check in enumerate(CHECKS):
            try:
                check()
            except Failure as failure:
                print(f"FAILED {check.__name__}\n{failure}\n\ncluster: {passed} passed, the rest was not tried")
                return 1
    finally:
        run("kubectl", "delete", "namespace", NAMESPACE)
    print(f"cluster: {len(CHECKS)} passed, 0 failed, on Kubernetes {json.loads(run('kubectl', 'version', '--output', 'json'))['serverVersion']['gitVersion']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
