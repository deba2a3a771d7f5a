#!/usr/bin/env python3
"""Checks of everything in deploy/ and of the workflows, without a cluster: `make chart`.

    chart.py            checks
    chart.py --bless    writes the golden renders anew, for a change that is meant

Each value set in deploy/helm/taxi/ci must lint, render, be valid for the oldest and the newest
Kubernetes and keep the rules of policy.py; each in ci/bad must be refused with the sentence on its
first line.
"""

import copy
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import kubernetes_validate.utils
import mistakes
import policy
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/taxi"
GOLDEN = Path(__file__).parent / "golden"
TOOLS = ROOT / ".tools/bin"
# The oldest that the chart is for, and the newest that the checker knows.
KUBERNETES = ["1.30", "1.37"]
# Kinds that are not Kubernetes' own.
FOREIGN = {"HTTPRoute", "GRPCRoute", "PodMonitor", "PrometheusRule"}
LONGEST_NAME = "a-release-name-that-has-as-many-as-fifty-three-letters"[:53]
# Its definitions have some megabytes, and it reads them for every object.
kubernetes_validate.utils.schema_contents = functools.lru_cache(kubernetes_validate.utils.schema_contents)


class Failure(Exception):
    """What is wrong, for a person."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failure((done.stdout + done.stderr).strip())
    return done.stdout


def helm(*words: str | Path) -> str:
    return run(TOOLS / "helm", *words)


@functools.cache
def render(values: Path, release: str = "taxi") -> str:
    return helm("template", release, CHART, "--namespace", "rides", "--values", values)


@functools.cache
def objects(text: str) -> list[dict]:
    return [it for it in yaml.load_all(text, yaml.CSafeLoader) if it]


def outside(values: Path) -> set[tuple[str, str]]:
    """What the value set says is there already."""
    names = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "existingSecret" in value:
                names.add(("Secret", value["existingSecret"]))
            if "configMap" in value:
                names.add(("ConfigMap", value["configMap"]["name"]))
            names.update(("Secret", name) for name in value.get("pullSecrets", []))
            if value.get("create") is False:
                names.add(("ServiceAccount", value["name"]))
        for it in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            walk(it)

    walk(yaml.safe_load(values.read_text()))
    return names


def insist(wrong: list[str]) -> None:
    if wrong:
        raise Failure("\n".join(wrong))


# ---- checks ---------------------------------------------------------------------------------


def lints(values: Path) -> None:
    helm("lint", "--strict", "--quiet", CHART, "--values", values)


def keeps_the_rules(values: Path) -> None:
    insist(policy.check(policy.Release(objects(render(values)), outside(values))))


@functools.cache
def valid(text: str, version: str) -> str:
    it = json.loads(text)
    try:
        kubernetes_validate.validate(it, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{policy.title(it)}, Kubernetes {version}: {error.message}"
    return ""


def is_valid(values: Path) -> None:
    own = [json.dumps(it) for it in objects(render(values)) if it["kind"] not in FOREIGN]
    insist([wrong for text in own for version in KUBERNETES if (wrong := valid(text, version))])


def is_refused(values: Path) -> None:
    expected = values.read_text().splitlines()[0].removeprefix("# ")
    try:
        render(values)
    except Failure as failure:
        if expected not in str(failure):
            raise Failure(f"expected: {expected}\nbut: {failure}") from None
    else:
        raise Failure("it is accepted")


def is_golden(values: Path) -> None:
    path, text = GOLDEN / values.name, settled(render(values))
    if "--bless" in sys.argv:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        difference = run_diff(path, text)
        raise Failure(f"{difference}\nif that is meant: make chart CHART=--bless")


def settled(text: str) -> str:
    """Without what is another each time, the secrets of an evaluation, and without whole files, alerts
    and dashboard, which are looked at for themselves."""
    documents = re.split(r"^---\n", text, flags=re.MULTILINE)
    text = "---\n".join(it for it in documents if not re.search(r"^kind: PrometheusRule|^  taxi.json:", it, re.MULTILINE))
    return re.sub(r"\bp[A-Za-z0-9]{31}\b", "GENERATED", text)


def run_diff(path: Path, text: str) -> str:
    command = ["diff", "-u", str(path), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True).stdout[:4000]


def every_rule_finds_its_mistakes() -> None:
    values = CHART / "ci/production.yaml"
    missing = {rule.__name__ for rule in policy.RULES} - {rule for rule, _, _ in mistakes.MISTAKES}
    insist([f"{rule} has no mistake to find" for rule in missing])
    for rule, words, make in mistakes.MISTAKES:
        spoilt = copy.deepcopy(objects(render(values)))
        make({(it["kind"], it["metadata"]["labels"]["app.kubernetes.io/component"]): it for it in spoilt})
        found = policy.check(policy.Release(spoilt, outside(values)))
        if not any(it.startswith(f"{rule}: ") and words in it for it in found):
            raise Failure(f"{rule} does not find: {words}\nfound: {found}")


def long_names_fit() -> None:
    for values in value_sets():
        insist(policy.check(policy.Release(objects(render(values, LONGEST_NAME)), outside(values))))


def two_releases_keep_apart() -> None:
    # Alike in all that is not cut off, and one named like a part of the other.
    for first, second in [(LONGEST_NAME, LONGEST_NAME[:-1] + "x"), ("taxi", "taxi-gateway")]:
        for values in (CHART / "ci/default.yaml", CHART / "ci/production.yaml"):
            insist(policy.collide(objects(render(values, first)), objects(render(values, second))))
    # No name ends in another's: then no release, whatever it is called, has an object of another's name.
    for values in value_sets():
        suffixes = {(it["kind"], it["metadata"]["name"].removeprefix("taxi-")) for it in objects(render(values))}
        insist([f"{kind}: {one} ends in {two}" for kind, one in suffixes for other, two in suffixes if kind == other and one.endswith(f"-{two}")])


def the_migration_is_another_when_what_it_runs_is() -> None:
    def jobs(*words: str) -> set[str]:
        text = helm("template", "taxi", CHART, *words)
        return {it["metadata"]["name"] for it in objects(text) if it["kind"] == "Job"}

    same, other = jobs("--set", "log=debug,services.gateway.replicas=2"), jobs("--set-string", "image.tag=2")
    if jobs("--set", "log=debug") != same or same & other or len(same) < 4:
        raise Failure(f"{same} and {other}")


def what_is_off_has_its_database_too() -> None:
    """Postgres makes databases only when its volume is empty."""

    def databases(*words: str) -> list[str]:
        release = policy.Release(objects(helm("template", "taxi", CHART, *words)), set())
        env = policy.containers(release.named("StatefulSet", "taxi-postgres"))[0]["env"]
        return [it["name"] for it in env if it["name"].startswith("PASSWORD_OF_")]

    all_of_them, one_off = databases(), databases("--set", "services.dashboard.enabled=false")
    if one_off != all_of_them or len(all_of_them) < 4:
        raise Failure(f"{all_of_them} and {one_off}")


def the_package_has_what_it_needs() -> None:
    for name in ("rules.yaml", "dashboard.json"):
        if not (CHART / "files" / name).exists():
            raise Failure(f"there is no deploy/helm/taxi/files/{name}")
    json.loads((CHART / "files/dashboard.json").read_text())


def rules_are_rules() -> None:
    run(TOOLS / "promtool", "check", "rules", CHART / "files/rules.yaml")
    for test in sorted(ROOT.glob("deploy/**/*.yaml")):
        if re.search(r"^rule_files:", test.read_text(), re.MULTILINE):
            run(TOOLS / "promtool", "test", "rules", test.name, cwd=test.parent)


def every_alert_has_a_runbook() -> None:
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                book = ROOT / re.sub(r"^.*(?=docs/runbooks/)", "", rule["annotations"]["runbook_url"]).split("#")[0]
                if not book.is_file():
                    raise Failure(f"{rule['alert']}: there is no {book.relative_to(ROOT)}")


def alerts_lead_to_where_the_runbooks_are() -> None:
    for base, start in [("", "docs/runbooks/"), ("https://example.com/books/", "https://example.com/books/")]:
        text = helm("template", "taxi", CHART, "--set", "monitoring.prometheusRule.enabled=true", "--set", f"monitoring.prometheusRule.runbooks={base}")
        rules = next(it for it in objects(text) if it["kind"] == "PrometheusRule")
        alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
        insist([f"{it['alert']} leads to {url}" for it in alerts if (url := it["annotations"]["runbook_url"]) != f"{start}{it['alert']}.md"])


def the_test_rides_over_tls_too() -> None:
    release = policy.Release(objects(render(CHART / "ci/tls.yaml")), set())
    pod, ready = release.named("Pod", "taxi-test"), release.named("ConfigMap", "taxi-test")
    arguments = policy.containers(pod)[0]["args"]
    addresses = set(json.loads(ready["data"]["ready.json"])["grpc"].values())
    if addresses != {"https://taxi-gateway:8088"} or arguments[-2:] != ["--ca", "/etc/taxi-tls/ca.crt"]:
        raise Failure(f"{arguments} at {addresses}")
    # The authority is all that it gets: the key is the gateway's.
    keys = [it["items"] for volume in pod["spec"]["volumes"] if (it := volume.get("secret"))]
    if keys != [[{"key": "ca.crt", "path": "ca.crt"}]]:
        raise Failure(f"it gets {keys}")


def the_dockerfile_is_clean() -> None:
    run(TOOLS / "hadolint", "--failure-threshold", "style", ROOT / "deploy/docker/Dockerfile")


def the_image_knows_its_revision() -> None:
    _, build = (ROOT / "deploy/docker/Dockerfile").read_text().split(" AS build\n")
    before, found, _ = build.partition("cargo build")
    if not found or "ARG REVISION=unknown\nENV TAXI_REVISION=${REVISION}\n" not in before:
        raise Failure("deploy/docker/Dockerfile does not build with TAXI_REVISION")
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    arguments = [step.get("with", {}).get("build-args", "") for job in release["jobs"].values() for step in job["steps"]]
    if not any("REVISION=${{ github.sha }}" in it.splitlines() for it in arguments):
        raise Failure("the release workflow does not say which REVISION it builds")


def the_workflows_are_safe() -> None:
    run(TOOLS / "zizmor", "--offline", "--no-progress", "--persona", "pedantic", ROOT / ".github")


def value_sets() -> list[Path]:
    return sorted((CHART / "ci").glob("*.yaml"))


def checks() -> list[tuple[str, object]]:
    of_sets = [lints, keeps_the_rules, is_valid]
    all_of_them = [(f"{values.stem} {check.__name__}", functools.partial(check, values)) for values in value_sets() for check in of_sets]
    all_of_them += [(f"{values.stem} is_golden", functools.partial(is_golden, values)) for values in value_sets() if values.stem in ("default", "production")]
    all_of_them += [(f"bad/{values.stem} is_refused", functools.partial(is_refused, values)) for values in sorted((CHART / "ci/bad").glob("*.yaml"))]
    alone = [
        every_rule_finds_its_mistakes,
        long_names_fit,
        two_releases_keep_apart,
        the_migration_is_another_when_what_it_runs_is,
        what_is_off_has_its_database_too,
        the_package_has_what_it_needs,
        rules_are_rules,
        every_alert_has_a_runbook,
        alerts_lead_to_where_the_runbooks_are,
        the_test_rides_over_tls_too,
        the_dockerfile_is_clean,
        the_image_knows_its_revision,
        the_workflows_are_safe,
    ]
    return all_of_them + [(check.__name__, check) for check in alone]


def main() -> int:
    failed = 0
    for name, check in checks():
        try:
            check()
        except Failure as failure:
            failed += 1
            print(f"FAILED {name}\n{failure}\n")
    print(f"chart: {len(checks()) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
