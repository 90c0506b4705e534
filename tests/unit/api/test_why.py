"""Each cause is raised by its fault and by nothing else."""

import re
from typing import Any

import pytest

from skerry.api.causes import CauseTable
from skerry.api.why import no_node, why_device, why_node, why_pod


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}


def node(*conditions: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "n1"}, "status": {"conditions": list(conditions)}}


def pod(
    *statuses: dict[str, Any], conditions: list[dict[str, str]] | None = None, bound: bool = True
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1"} if bound else {},
        "status": {"phase": "Running", "containerStatuses": list(statuses), "conditions": conditions or []},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {
        "name": "c",
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": reason, "message": message}},
    }


READY = condition("Ready", "True")
HEALTHY_CONTAINER = {"name": "c", "ready": True, "restartCount": 0, "state": {"running": {}}}


def test_codes_are_unique_and_well_formed() -> None:
    codes = [cause.code for cause in CauseTable().all()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"SK-[CDELNP]\d{3}", code) for code in codes)
    assert all(cause.remedy and cause.title for cause in CauseTable().all())


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ([condition("Ready", "Unknown", "stopped posting")], "SK-N001"),
        ([], "SK-N001"),
        ([READY, condition("DiskPressure", "True")], "SK-N002"),
        ([READY, condition("IdentityClash", "True", "10.0.0.1 and 10.0.0.2")], "SK-N003"),
        ([READY, condition("DeliveryBacklog", "True", "120 deliveries wait")], "SK-N005"),
    ],
)
def test_node_faults(conditions: list[dict[str, str]], code: str) -> None:
    assert [f.cause.code for f in why_node(node(*conditions))] == [code]


def test_healthy_node_raises_nothing() -> None:
    assert why_node(node(READY, condition("DiskPressure", "False"))) == []


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (pod(conditions=[condition("PodScheduled", "False", "0/1 nodes")], bound=False), "SK-P001"),
        (pod(waiting("CrashLoopBackOff")), "SK-P002"),
        (pod(waiting("ImagePullBackOff")), "SK-P003"),
        (pod(waiting("CreateContainerConfigError", 'configmap "x" not found')), "SK-P004"),
        (pod(waiting("FailedMount", "no such directory")), "SK-P005"),
        (pod(waiting("CreateContainerError", "container 'c' has no command: it runs as a process")), "SK-P006"),
        (pod(waiting("RunContainerError", "cannot run /nope/bin: no such file")), "SK-P010"),
        (pod(waiting("CreateContainerConfigError", "hostPath is not allowed on this node")), "SK-P010"),
        (pod(waiting("CreateContainerError", "command not found in configmap")), "SK-P010"),
        (pod({**HEALTHY_CONTAINER, "lastState": {"terminated": {"reason": "OOMKilled"}}}), "SK-P008"),
        (pod({**HEALTHY_CONTAINER, "ready": False}), "SK-P009"),
    ],
)
def test_pod_faults(broken: dict[str, Any], code: str) -> None:
    assert [f.cause.code for f in why_pod(broken, node(READY))] == [code]


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": at}


CREATING = pod(waiting("ContainerCreating"))
CREATING["status"]["phase"] = "Pending"


@pytest.mark.parametrize(
    ("reason", "message", "code"),
    [
        ("FailedMount", "volume 'v': configmaps \"c\" not found", "SK-P004"),
        ("FailedMount", "volume 'v': secrets \"s\" not found", "SK-P004"),
        ("FailedMount", "volume 'v': persistentvolumeclaims \"d\" not found", "SK-P011"),
        ("FailedMount", "volume 'v': PersistentVolumeClaim 'd' is not bound", "SK-P011"),
        ("FailedMount", "volume 'v': nfs volumes are not supported on this node", "SK-P005"),
        ("FailedCreatePodSandBox", "plugin type bridge failed", "SK-P012"),
    ],
)
def test_what_only_events_tell(reason: str, message: str, code: str) -> None:
    found = why_pod(CREATING, node(READY), [event("Scheduled", ""), event(reason, message)])
    assert [f.cause.code for f in found] == [code]
    assert found[0].evidence == message


def test_the_newest_event_counts_and_none_once_a_container_has_begun() -> None:
    events = [event("FailedMount", "nfs", "2026-01-01T00:00:09Z"), event("FailedCreatePodSandBox", "x")]
    assert [f.cause.code for f in why_pod(CREATING, node(READY), events)] == ["SK-P005"]
    assert why_pod(pod(HEALTHY_CONTAINER), node(READY), events) == []
    initializing = pod(waiting("PodInitializing"))
    initializing["status"] |= {"phase": "Pending", "initContainerStatuses": [HEALTHY_CONTAINER]}
    assert why_pod(initializing, node(READY), events) == []


def test_a_pod_that_its_node_gave_up() -> None:
    found = pod()
    found["status"] |= {"phase": "Failed", "reason": "NodeAffinity", "message": "this node is not disk=ssd"}
    [why] = why_pod(found, node(READY))
    assert (why.cause.code, why.evidence) == ("SK-P014", "NodeAffinity: this node is not disk=ssd")


def test_a_pod_that_cannot_be_ended() -> None:
    told = [event("FailedKillPod", "no iptables")]
    assert why_pod(pod(HEALTHY_CONTAINER), node(READY), told) == [], "it is not to end"
    ending = pod(HEALTHY_CONTAINER)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    [why] = why_pod(ending, node(READY), told)
    assert (why.cause.code, why.evidence) == ("SK-P015", "no iptables")


def test_a_claim_that_the_scheduler_misses() -> None:
    missing = condition("PodScheduled", "False", 'persistentvolumeclaim "d" not found')
    assert [f.cause.code for f in why_pod(pod(conditions=[missing], bound=False), None)] == ["SK-P011"]


def test_nodes_that_do_not_exist() -> None:
    assert [f.cause.code for f in no_node("n9")] == ["SK-N004"]
    assert [f.cause.code for f in why_pod(pod(HEALTHY_CONTAINER), None)] == ["SK-P013"]


def test_pod_of_an_offline_node() -> None:
    assert [f.cause.code for f in why_pod(pod(HEALTHY_CONTAINER), node(condition("Ready", "Unknown")))] == ["SK-P007"]


def test_healthy_pod_raises_nothing() -> None:
    assert why_pod(pod(HEALTHY_CONTAINER), node(READY)) == []


def device(node_name: str = "n1", desired: str = "", protocol: str = "modbus") -> dict[str, Any]:
    properties = [{"name": "t", "desired": {"value": desired}}]
    return {
        "metadata": {"name": "d"},
        "spec": {
            "nodeName": node_name,
            "deviceModelRef": {"name": "m"},
            "properties": properties,
            "protocol": {"protocolName": protocol},
        },
    }


MODEL = {"metadata": {"name": "m"}, "spec": {"properties": [{"name": "t"}]}}


def reported(value: str, state: str = "online") -> dict[str, Any]:
    return {"status": {"state": state, "twins": [{"propertyName": "t", "reported": {"value": value}}]}}


@pytest.mark.parametrize(
    ("obj", "model", "status", "code"),
    [
        (device(""), MODEL, reported("1"), "SK-D001"),
        (device(), None, reported("1"), "SK-D002"),
        (device(), MODEL, reported("1", "offline"), "SK-D003"),
        (device(), MODEL, None, "SK-D004"),
        (device(desired="20"), MODEL, reported("19"), "SK-D005"),
        (device(), {"metadata": {"name": "m"}, "spec": {"properties": []}}, reported("1"), "SK-D006"),
    ],
)
def test_device_faults(obj: Any, model: Any, status: Any, code: str) -> None:
    assert [f.cause.code for f in why_device(obj, model, status, node(READY))] == [code]


def test_healthy_device_raises_nothing() -> None:
    assert why_device(device(desired="20.0"), MODEL, reported("20"), node(READY)) == []
    assert why_device(device(protocol="acme"), MODEL, reported("20"), node(READY)) == []


def test_devices_of_unknown_and_offline_nodes_and_of_unknown_protocols() -> None:
    def codes(*arguments: Any) -> list[str]:
        return [f.cause.code for f in why_device(*arguments)]

    assert codes(device(), MODEL, None, None) == ["SK-D007"]
    assert codes(device(), None, None, None) == ["SK-D007", "SK-D002"]
    assert codes(device(), MODEL, reported("1"), node(condition("Ready", "Unknown"))) == ["SK-D009"]
    assert codes(device(protocol="acme"), MODEL, None, node(READY)) == ["SK-D008"]
