"""What the chart promises and no other checker sees: rules over the objects of one release.

A rule takes a `Release` and yields a sentence for everything that is wrong.
"""

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

SELECTOR = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"]
WORKLOADS = ["Deployment", "StatefulSet", "Job", "Pod"]
# Pod Security "restricted" allows these kinds of volumes and no others.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
LONGEST = {"StatefulSet": 52}
DEFAULTS = tomllib.loads(
    (Path(__file__).parents[2] / "crates/taxi/src/config.default.toml").read_text()
)


@dataclass
class Release:
    """All objects of a release, and the names of what is outside of it."""

    objects: list[dict]
    outside: set[tuple[str, str]]

    def of(self, *kinds: str) -> list[dict]:
        return [it for it in self.objects if it["kind"] in kinds]

    def named(self, kind: str, name: str) -> dict | None:
        return next((it for it in self.of(kind) if it["metadata"]["name"] == name), None)


def title(thing: dict) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def template(workload: dict) -> dict:
    """The pod of a workload, as a template."""
    return workload if workload["kind"] == "Pod" else workload["spec"]["template"]


def containers(workload: dict) -> list[dict]:
    spec = template(workload)["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def matches(selector: dict, labels: dict) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for it in selector.get("matchExpressions", []):
        assert it["operator"] == "In", it
        if labels.get(it["key"]) not in it["values"]:
            return False
    return True


def selected(release: Release, selector: dict) -> list[dict]:
    return [it for it in release.of(*WORKLOADS) if matches(selector, template(it)["metadata"].get("labels", {}))]


# ---- names ----------------------------------------------------------------------------------


def every_object_is_there_once(release: Release) -> Iterator[str]:
    for (kind, name), times in Counter((it["kind"], it["metadata"]["name"]) for it in release.objects).items():
        if times > 1:
            yield f"{kind} {name} is there {times} times"


def names_are_short_enough(release: Release) -> Iterator[str]:
    for it in release.objects:
        name, longest = it["metadata"]["name"], LONGEST.get(it["kind"], 63)
        if len(name) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{title(it)}: the name has {len(name)} characters, or some that a name may not have"
        for key, value in it["metadata"].get("labels", {}).items():
            if len(value) > 63:
                yield f"{title(it)}: the label {key} has {len(value)} characters"


# ---- selectors ------------------------------------------------------------------------------


def selectors_are_three_labels_of_their_own_pods(release: Release) -> Iterator[str]:
    for it in release.of("Deployment", "StatefulSet"):
        selector = it["spec"]["selector"]
        if sorted(selector) != ["matchLabels"] or sorted(selector["matchLabels"]) != sorted(SELECTOR):
            yield f"{title(it)} selects by {selector}"
        found = [title(other) for other in selected(release, selector)]
        if found != [title(it)]:
            yield f"{title(it)} selects the pods of {found}"
    for it in release.of("Service"):
        found = selected(release, {"matchLabels": it["spec"]["selector"]})
        if len(found) != 1:
            yield f"{title(it)} selects the pods of {[title(other) for other in found]}"
            continue
        ports = {port["name"] for container in containers(found[0]) for port in container.get("ports", [])}
        for port in it["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{title(it)}: {title(found[0])} has no port {port['targetPort']}"
    for it in release.of("PodDisruptionBudget", "PodMonitor"):
        if not selected(release, it["spec"]["selector"]):
            yield f"{title(it)} selects nobody"
    for it in release.of("Deployment"):
        for spread in template(it)["spec"].get("topologySpreadConstraints", []):
            if selected(release, spread["labelSelector"]) != [it]:
                yield f"{title(it)} is spread among others"


def what_is_scaled_has_no_fixed_size(release: Release) -> Iterator[str]:
    scaled = {it["spec"]["scaleTargetRef"]["name"] for it in release.of("HorizontalPodAutoscaler")}
    for it in release.of("Deployment"):
        if ("replicas" in it["spec"]) == (it["metadata"]["name"] in scaled):
            yield f"{title(it)}: either replicas or an autoscaler"
    for name in scaled:
        if not release.named("Deployment", name):
            yield f"there is no Deployment {name} to scale"


def budgets_are_for_more_than_one(release: Release) -> Iterator[str]:
    for it in release.of("PodDisruptionBudget"):
        name = it["metadata"]["name"]
        scaler, deployment = release.named("HorizontalPodAutoscaler", name), release.named("Deployment", name)
        least = scaler["spec"]["minReplicas"] if scaler else deployment["spec"]["replicas"]
        if least < 2 or it["spec"].get("maxUnavailable") != 1:
            yield f"{title(it)}: a budget for {least}"


# ---- references -----------------------------------------------------------------------------


def what_is_referred_to_exists(release: Release) -> Iterator[str]:
    def missing(kind: str, name: str, key: str | None) -> bool:
        if (kind, name) in release.outside:
            return False
        it = release.named(kind, name)
        return it is None or key is not None and key not in {**it.get("data", {}), **it.get("stringData", {})}

    for it in release.of(*WORKLOADS):
        spec = template(it)["spec"]
        account = spec["serviceAccountName"]
        if missing("ServiceAccount", account, None):
            yield f"{title(it)}: there is no ServiceAccount {account}"
        for kind, name, key in references(spec):
            if missing(kind, name, key):
                yield f"{title(it)}: there is no {kind} {name}" + (f" with {key}" if key else "")
    for it in release.of("Ingress", "HTTPRoute", "GRPCRoute"):
        for name, port in backends(it):
            service = release.named("Service", name)
            ports = [port for it in (service or {}).get("spec", {}).get("ports", []) for port in (it["name"], it["port"])]
            if port not in ports:
                yield f"{title(it)} leads to {name}:{port}, which is not there"
    for it in release.of("StatefulSet"):
        if not release.named("Service", it["spec"]["serviceName"]):
            yield f"{title(it)}: there is no Service {it['spec']['serviceName']}"


def references(spec: dict) -> Iterator[tuple[str, str, str | None]]:
    """ConfigMaps and Secrets that a pod needs: (kind, name, key)."""
    for container in spec.get("initContainers", []) + spec["containers"]:
        for env in container.get("env", []):
            source = env.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"], None


def backends(route: dict) -> Iterator[tuple[str, str | int]]:
    for rule in route["spec"]["rules"]:
        for path in rule.get("http", {}).get("paths", []):
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name") or service["port"]["number"]
        for backend in rule.get("backendRefs", []):
            yield backend["name"], backend["port"]


# ---- pods -----------------------------------------------------------------------------------


def pods_are_restricted(release: Release) -> Iterator[str]:
    """Pod Security "restricted", and what we ask for beyond it."""
    for it in release.of(*WORKLOADS):
        spec = template(it)["spec"]
        context = spec.get("securityContext", {})
        for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
            if field in spec:
                yield f"{title(it)}: {field}"
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or context.get("sysctls"):
            yield f"{title(it)} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{title(it)} may make any system call"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{title(it)} has a token of its ServiceAccount"
        if spec.get("enableServiceLinks") is not False:
            yield f"{title(it)}: Services become TAXI_.. variables, which end the program"
        for volume in spec.get("volumes", []):
            if not set(volume) - {"name"} <= VOLUMES:
                yield f"{title(it)}: the volume {volume}"
        for container in containers(it):
            where = f"{title(it)}/{container['name']}"
            yield from (f"{where}: {what}" for what in container_is_restricted(container))


def container_is_restricted(container: dict) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "it may become more than it is"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "it keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root is writable"
    if set(context) & {"runAsUser", "runAsNonRoot", "seccompProfile", "procMount"}:
        yield "it takes back what its pod says"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "it has a port of the node"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield "it does not say what it needs"
    if re.search(r"(:latest|:|^[^:@]+)$", container["image"]):
        yield f"its image {container['image']} may be any"


def nothing_is_there_twice(release: Release) -> Iterator[str]:
    for it in release.of(*WORKLOADS):
        spec = template(it)["spec"]
        lists = [("volume", [volume["name"] for volume in spec.get("volumes", []) + it["spec"].get("volumeClaimTemplates", []) if "name" in volume])]
        for container in containers(it):
            lists += [
                ("variable", [env["name"] for env in container.get("env", [])]),
                ("mount", [mount["mountPath"] for mount in container.get("volumeMounts", [])]),
                ("port", [port["name"] for port in container.get("ports", [])]),
                ("port", [(port["containerPort"], port["protocol"]) for port in container.get("ports", [])]),
            ]
        for what, names in lists:
            for name, times in Counter(names).items():
                if times > 1:
                    yield f"{title(it)}: the {what} {name} is there {times} times"
        mounted = {mount["name"] for container in containers(it) for mount in container.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in it["spec"].get("volumeClaimTemplates", [])}
        if mounted != volumes:
            yield f"{title(it)}: {sorted(mounted ^ volumes)} is a volume or a mount, but not both"


def pods_start_live_and_end_well(release: Release) -> Iterator[str]:
    for it in release.of("Deployment", "StatefulSet"):
        for container in containers(it):
            ports = {port["name"] for port in container["ports"]} | {port["containerPort"] for port in container["ports"]}
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(name)
                if not probe:
                    yield f"{title(it)} has no {name}"
                    continue
                port = (probe.get("grpc") or probe.get("httpGet") or {}).get("port")
                if port is not None and port not in ports:
                    yield f"{title(it)}: {name} asks on port {port}, which it has not"
            # What a context needs may be away without costing it its life.
            for name in ("startupProbe", "livenessProbe"):
                probe = container.get(name, {})
                if "grpc" in probe and probe["grpc"].get("service") != "liveness":
                    yield f"{title(it)}: {name} depends on what the service needs"
                if probe.get("httpGet", {}).get("path") == "/readyz":
                    yield f"{title(it)}: {name} depends on what the service needs"
    for it in release.of("Deployment"):
        spec, container = template(it)["spec"], containers(it)[0]
        rolling = it["spec"]["strategy"]["rollingUpdate"]
        if rolling["maxUnavailable"] != 0 or rolling["maxSurge"] == 0:
            yield f"{title(it)} loses a pod while it is rolled out"
        env = {env["name"]: env.get("value") for env in container["env"]}
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = int(env["TAXI_SERVER__DRAIN"].removesuffix("s"))
        # The program itself stops its work within 10 s after the last request.
        if spec["terminationGracePeriodSeconds"] < sleep + drain + 10:
            yield f"{title(it)} is killed before it has drained"
        if not any(key.startswith("checksum/") for key in template(it)["metadata"]["annotations"]):
            yield f"{title(it)} does not notice that its configuration is another"


# ---- what the program takes -----------------------------------------------------------------


def settings_are_the_program_s(release: Release) -> Iterator[str]:
    """The configuration file and the environment have only keys, and kinds of values, that it knows."""

    def unknown(table: dict, known: dict, path: str) -> Iterator[str]:
        for key, value in table.items():
            at = f"{path}{key}"
            if key not in known:
                yield f"the program has no setting {at}"
            elif isinstance(known[key], dict):
                yield from unknown(value, known[key], at + ".") if isinstance(value, dict) else [f"{at} is a table"]
            elif type(known[key]) is not type(value) and {type(known[key]), type(value)} != {int, float}:
                yield f"{at} = {value!r}, but it is like {known[key]!r}"

    for it in release.of("ConfigMap"):
        for name, text in it.get("data", {}).items():
            if name.endswith(".toml"):
                yield from unknown(tomllib.loads(text), DEFAULTS, "")
            if name.endswith(".json"):
                json.loads(text)
    for it in release.of(*WORKLOADS):
        for container in containers(it):
            for env in container.get("env", []):
                if not env["name"].startswith("TAXI_") or env["name"] in ("TAXI_CONFIG", "TAXI_LOG"):
                    continue
                known = DEFAULTS
                for key in env["name"].removeprefix("TAXI_").lower().split("__"):
                    known = known.get(key) if isinstance(known, dict) else None
                if known is None:
                    yield f"{title(it)}: the program has no setting {env['name']}"


def secrets_are_only_their_own(release: Release) -> Iterator[str]:
    """No service can read another's database: it is given one URL, its own."""
    owners: dict[tuple[str, str], str] = {}
    for it in release.of("Deployment", "Job"):
        container = containers(it)[0]
        for env in container["env"]:
            found = re.fullmatch(r"TAXI_DATABASE__(\w+)__URL", env["name"])
            if not found:
                continue
            context, source = found[1].lower(), env["valueFrom"]["secretKeyRef"]
            if container["args"] not in (["serve", context], ["migrate", context]):
                yield f"{title(it)} is given the database of {context}"
            if owners.setdefault((source["name"], source["key"]), context) != context:
                yield f"{title(it)} shares {source['name']}/{source['key']} with {owners[source['name'], source['key']]}"


# ---- the network ----------------------------------------------------------------------------


def ways_are_open_on_both_ends(release: Release) -> Iterator[str]:
    """Where policies are in force, every pod has one, and what one end may call lets the other in."""
    policies = release.of("NetworkPolicy")
    if not policies:
        return
    of = {title(pod): [it for it in policies if matches(it["spec"]["podSelector"], template(pod)["metadata"]["labels"])] for pod in release.of(*WORKLOADS)}
    for pod in release.of(*WORKLOADS):
        if len(of[title(pod)]) != 1:
            yield f"{title(pod)} has {len(of[title(pod)])} policies"
            continue
        if of[title(pod)][0]["spec"]["policyTypes"] != ["Ingress", "Egress"]:
            yield f"{title(pod)}: only one direction has a policy"
        for rule in of[title(pod)][0]["spec"]["egress"]:
            for peer in rule.get("to", []):
                for other in selected(release, peer["podSelector"]):
                    for port in rule["ports"]:
                        if not any(lets_in(it, other, pod, port["port"]) for it in of[title(other)]):
                            yield f"{title(pod)} may call {title(other)} on {port['port']}, but is not let in"


def lets_in(policy: dict, pod: dict, caller: dict, port: int) -> bool:
    names = {it["name"]: it["containerPort"] for container in containers(pod) for it in container.get("ports", [])}
    labels = template(caller)["metadata"]["labels"]
    for rule in policy["spec"]["ingress"]:
        if port not in [names.get(it["port"], it["port"]) for it in rule["ports"]]:
            continue
        if "from" not in rule or any(
            peer.get("namespaceSelector") == {} or "podSelector" in peer and matches(peer["podSelector"], labels)
            for peer in rule["from"]
        ):
            return True
    return False


RULES = [
    every_object_is_there_once,
    names_are_short_enough,
    selectors_are_three_labels_of_their_own_pods,
    what_is_scaled_has_no_fixed_size,
    budgets_are_for_more_than_one,
    what_is_referred_to_exists,
    pods_are_restricted,
    nothing_is_there_twice,
    pods_start_live_and_end_well,
    settings_are_the_program_s,
    secrets_are_only_their_own,
    ways_are_open_on_both_ends,
]


def check(release: Release) -> list[str]:
    """All that is wrong with a release."""
    return [f"{rule.__name__}: {sentence}" for rule in RULES for sentence in rule(release)]


def collide(first: list[dict], second: list[dict]) -> list[str]:
    """What two releases in one namespace would fight over."""
    names = lambda objects: {(it["kind"], it["metadata"]["name"]) for it in objects}
    wrong = [f"both have {kind} {name}" for kind, name in names(first) & names(second)]
    both = Release(first + second, set())
    for it in both.of("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        spec = it["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        selector = {"matchLabels": selector} if it["kind"] == "Service" else selector
        own = first if it in first else second
        wrong += [f"{title(it)} selects {title(pod)} of the other" for pod in selected(both, selector) if pod not in own]
    return wrong
