"""A pod with a claim, a probe and hooks, from the API server to processes of the node and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import (
    CONFIGMAPS,
    DEVICEMODELS,
    DEVICES,
    EVENTS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STORAGECLASSES,
    Object,
)
from skerry.testing.site import Site, site, until

pytestmark = pytest.mark.timeout(150)


def claim(name: str) -> Object:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "here",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def storage_class(directory: Path) -> Object:
    return {
        "metadata": {"name": "here"},
        "provisioner": "skerry.dev/node-local",
        "parameters": {"directory": str(directory)},
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }


def whole_pod() -> Object:
    script = "echo began >> $D/log; trap 'echo ended >> $D/log; exit 0' TERM; touch $D/ready; sleep 300 & wait"
    container: dict[str, Any] = {
        "name": "app", "image": "label", "command": ["/bin/sh", "-c", f"D=${{SKERRY_VOLUMES}}/data; {script}"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "conf", "mountPath": "/conf"}],
        "readinessProbe": {
            "exec": {"command": ["/bin/sh", "-c", "ls ${SKERRY_VOLUMES}/data/ready"]}, "periodSeconds": 1,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo bye >> ${SKERRY_VOLUMES}/data/log"]}}},
    }  # fmt: skip
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "conf", "configMap": {"name": "conf"}},
    ]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 10}
    return {"metadata": {"name": "whole", "namespace": "default"}, "spec": spec}


async def why_not_ready(at: Site, name: str) -> str:
    pod = await at.api.get(PODS, name, namespace="default")
    by_type = {c["type"]: c["status"] for c in pod["status"].get("conditions") or []}
    return (
        ""
        if by_type.get("Ready") == "True"
        else f"{pod['status'].get('phase')} {by_type} {pod['status'].get('message')}"
    )


async def test_a_claim_a_probe_and_hooks_from_end_to_end(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o777)
    async with site(tmp_path / "site", runtime="process") as at:
        await at.api.create(STORAGECLASSES, storage_class(disk))
        await at.api.create(PERSISTENTVOLUMECLAIMS, claim("data"), namespace="default")
        config = {"metadata": {"name": "conf", "namespace": "default"}, "data": {"a": "1"}}
        await at.api.create(CONFIGMAPS, config, namespace="default")
        await at.api.create(PODS, whole_pod(), namespace="default")
        await until(lambda: why_not_ready(at, "whole"), within_s=60)
        [volume] = disk.iterdir()
        assert (volume / "log").read_text() == "began\n"
        await at.api.delete(PODS, "whole", namespace="default")

        async def gone() -> str:
            return "it is there" if (await at.api.list(PODS, namespace="default")).items else ""

        await until(gone, within_s=60)
        assert (volume / "log").read_text() == "began\nbye\nended\n"


async def test_what_a_node_cannot_do_is_said_where_people_look(tmp_path: Path) -> None:
    async with site(tmp_path / "site", runtime="process") as at:
        found = whole_pod()
        found["spec"]["volumes"] = [
            {"name": "data", "nfs": {"server": "x", "path": "/"}},
            {"name": "conf", "emptyDir": {}},
        ]
        await at.api.create(PODS, found, namespace="default")

        async def told() -> str:
            events = (await at.api.list(EVENTS, namespace="default")).items
            seen = [(event["reason"], event["message"]) for event in events]
            return "" if any(r == "FailedMount" and "nfs" in m for r, m in seen) else str(seen)

        await until(told, within_s=60)
        assert (await at.api.get(PODS, "whole", namespace="default"))["status"]["phase"] == "Pending"
        assert await codes(at, "pod/whole") == {"SK-P005"}


async def test_a_pod_that_was_bound_by_hand_fails_where_its_affinity_means_other_nodes(tmp_path: Path) -> None:
    def bound(name: str, disk: str) -> Object:
        term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": [disk]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        container = {"name": "app", "image": "label", "command": ["sleep", "300"]}
        spec = {"nodeName": Site.node, "containers": [container], "affinity": {"nodeAffinity": required}}
        return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}

    async with site(tmp_path / "site", runtime="process") as at:
        await at.api.patch(NODES, at.node, {"metadata": {"labels": {"disk": "ssd"}}})
        for name, disk in (("here", "ssd"), ("elsewhere", "hdd")):
            await at.api.create(PODS, bound(name, disk), namespace="default")
        await until(lambda: why_not_ready(at, "here"), within_s=60)

        async def refused() -> str:
            status = (await at.api.get(PODS, "elsewhere", namespace="default"))["status"]
            return "" if (status["phase"], status.get("reason")) == ("Failed", "NodeAffinity") else str(status)

        await until(refused, within_s=60)
        await at.reset()


async def codes(at: Site, target: str) -> set[str]:
    """What ``skerry why`` finds."""
    answer = await at.told("why", target, "--kubeconfig", str(at.cloud.ready["kubeconfig"]))
    return {finding["code"] for finding in answer["findings"]}


def mounting(name: str, **source: Any) -> Object:
    found = whole_pod()
    found["metadata"]["name"] = name
    found["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}, {"name": "conf", **source}]
    return found


async def test_why_names_what_holds_pods_and_devices_back(tmp_path: Path) -> None:
    async with site(tmp_path / "site", runtime="process") as at:
        await at.api.create(CONFIGMAPS, {"metadata": {"name": "there"}, "data": {"a": "1"}}, namespace="default")
        pods = {
            "SK-P004": [mounting("config", configMap={"name": "lost"}), mounting("secret", secret={"secretName": "x"})],
            "SK-P011": [mounting("claim", persistentVolumeClaim={"claimName": "lost"})],
            "SK-P013": [mounting("adrift", emptyDir={})],
            "": [mounting("healthy", configMap={"name": "there"})],
        }
        pods["SK-P013"][0]["spec"]["nodeName"] = "nowhere"
        kinds = [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]
        await at.api.create(
            DEVICEMODELS, {"metadata": {"name": "m"}, "spec": {"protocol": "acme", "properties": kinds}},
            namespace="default",
        )  # fmt: skip
        devices = {
            "SK-D002": device("no-model", at.node, model="lost"),
            "SK-D007": device("no-node", "nowhere"),
            "SK-D008": device("no-mapper", at.node),
        }
        for group in pods.values():
            for found in group:
                await at.api.create(PODS, found, namespace="default")
        for obj in devices.values():
            await at.api.create(DEVICES, obj, namespace="default")
        await until(lambda: why_not_ready(at, "healthy"), within_s=60)
        for code, group in pods.items():
            for found in group:
                await until(lambda f=found, c=code: _differs(at, f"pod/{f['metadata']['name']}", c), within_s=60)
        for code, obj in devices.items():
            assert await codes(at, f"device/{obj['metadata']['name']}") == {code}
        assert await codes(at, "node/nowhere") == {"SK-N004"}
        assert await codes(at, f"node/{at.node}") == set()
        await at.reset()


async def _differs(at: Site, target: str, code: str) -> str:
    found = await codes(at, target)
    return "" if found == ({code} if code else set()) else f"{target}: {found} instead of {code!r}"


def device(name: str, node: str, *, model: str = "m") -> Object:
    spec = {
        "deviceModelRef": {"name": model}, "nodeName": node, "properties": [{"name": "t"}],
        "protocol": {"protocolName": "acme", "configData": {}},
    }  # fmt: skip
    return {"metadata": {"name": name}, "spec": spec}
