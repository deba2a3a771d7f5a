"""Mistakes that each rule of policy.py has to find: a rule that finds nothing protects nobody.

A mistake takes the objects of the production release, by kind and component, and spoils one.
"""

from typing import Callable

Objects = dict[tuple[str, str], dict]


def pod(objects: Objects) -> dict:
    return objects["Deployment", "driving"]["spec"]["template"]["spec"]


def container(objects: Objects) -> dict:
    return pod(objects)["containers"][0]


def env(objects: Objects, name: str) -> dict:
    return next(it for it in container(objects)["env"] if it["name"] == name)


def config(objects: Objects, more: str) -> None:
    objects["ConfigMap", "config"]["data"]["taxi.toml"] += more


def rename(objects: Objects, kind: str, component: str, name: str) -> None:
    objects[kind, component]["metadata"]["name"] = name


# Which rule, what it says among other things, and how to make the mistake.
MISTAKES: list[tuple[str, str, Callable[[Objects], object]]] = [
    ("every_object_is_there_once", "is there 2 times", lambda it: rename(it, "Service", "driving", "taxi-payment")),
    ("names_are_short_enough", "has 64 characters", lambda it: rename(it, "Service", "driving", "a" * 64)),
    ("selectors_are_three_labels_of_their_own_pods", "selects by", lambda it: it["Deployment", "driving"]["spec"]["selector"]["matchLabels"].update(version="1")),
    ("selectors_are_three_labels_of_their_own_pods", "selects the pods of []", lambda it: it["Service", "driving"]["spec"]["selector"].update({"app.kubernetes.io/component": "drivng"})),
    ("selectors_are_three_labels_of_their_own_pods", "has no port http", lambda it: it["Service", "driving"]["spec"]["ports"][0].update(targetPort="http")),
    ("what_is_scaled_has_no_fixed_size", "either replicas or", lambda it: it["Deployment", "gateway"]["spec"].update(replicas=3)),
    ("budgets_are_for_more_than_one", "a budget for 1", lambda it: it["Deployment", "driving"]["spec"].update(replicas=1)),
    ("what_is_referred_to_exists", "there is no Secret", lambda it: env(it, "TAXI_BROKER__URL")["valueFrom"]["secretKeyRef"].update(name="nobody-s")),
    ("what_is_referred_to_exists", "there is no ConfigMap", lambda it: pod(it)["volumes"][0]["configMap"].update(name="nobody-s")),
    ("what_is_referred_to_exists", "leads to taxi-gateway:1", lambda it: it["HTTPRoute", "gateway"]["spec"]["rules"][1]["backendRefs"][0].update(port=1)),
    ("pods_are_restricted", "may run as root", lambda it: pod(it)["securityContext"].pop("runAsNonRoot")),
    ("pods_are_restricted", "any system call", lambda it: pod(it)["securityContext"].pop("seccompProfile")),
    ("pods_are_restricted", "hostNetwork", lambda it: pod(it).update(hostNetwork=True)),
    ("pods_are_restricted", "TAXI_.. variables", lambda it: pod(it).pop("enableServiceLinks")),
    ("pods_are_restricted", "token of its", lambda it: pod(it).pop("automountServiceAccountToken")),
    ("pods_are_restricted", "the volume", lambda it: pod(it)["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
    ("pods_are_restricted", "root is writable", lambda it: container(it)["securityContext"].pop("readOnlyRootFilesystem")),
    ("pods_are_restricted", "keeps capabilities", lambda it: container(it)["securityContext"]["capabilities"].update(add=["NET_RAW"])),
    ("pods_are_restricted", "what it needs", lambda it: container(it)["resources"].pop("limits")),
    ("pods_are_restricted", "may be any", lambda it: container(it).update(image="taxi:latest")),
    ("nothing_is_there_twice", "the variable TAXI_LOG", lambda it: container(it)["env"].append({"name": "TAXI_LOG", "value": "debug"})),
    ("nothing_is_there_twice", "the mount /etc/taxi", lambda it: container(it)["volumeMounts"].append(container(it)["volumeMounts"][0])),
    ("nothing_is_there_twice", "a volume or a mount", lambda it: pod(it)["volumes"].append({"name": "idle", "emptyDir": {}})),
    ("pods_start_live_and_end_well", "has no readinessProbe", lambda it: container(it).pop("readinessProbe")),
    ("pods_start_live_and_end_well", "livenessProbe depends", lambda it: container(it)["livenessProbe"]["grpc"].pop("service")),
    ("pods_start_live_and_end_well", "killed before", lambda it: pod(it).update(terminationGracePeriodSeconds=30)),
    ("pods_start_live_and_end_well", "loses a pod", lambda it: it["Deployment", "driving"]["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    ("pods_start_live_and_end_well", "does not notice", lambda it: it["Deployment", "driving"]["spec"]["template"]["metadata"]["annotations"].clear()),
    ("settings_are_the_program_s", "no setting fare.won", lambda it: config(it, "fare.won = 1\n")),
    ("settings_are_the_program_s", "it is like 8088", lambda it: it["ConfigMap", "config"]["data"].update({"taxi.toml": 'listen.gateway = "8088"'})),
    ("settings_are_the_program_s", "no setting TAXI_GATEWAY_PORT", lambda it: container(it)["env"].append({"name": "TAXI_GATEWAY_PORT", "value": "tcp://"})),
    ("secrets_are_only_their_own", "is given the database of payment", lambda it: env(it, "TAXI_DATABASE__DRIVING__URL").update(name="TAXI_DATABASE__PAYMENT__URL")),
    ("secrets_are_only_their_own", "shares taxi-db-", lambda it: env(it, "TAXI_DATABASE__DRIVING__URL")["valueFrom"]["secretKeyRef"].update(name="taxi-db-payment-app")),
    ("ways_are_open_on_both_ends", "has 0 policies", lambda it: it["NetworkPolicy", "driving"]["spec"]["podSelector"]["matchLabels"].update({"app.kubernetes.io/component": "x"})),
    ("ways_are_open_on_both_ends", "is not let in", lambda it: it["NetworkPolicy", "payment"]["spec"]["ingress"].pop(0)),
    ("ways_are_open_on_both_ends", "only one direction", lambda it: it["NetworkPolicy", "payment"]["spec"].update(policyTypes=["Ingress"])),
]
