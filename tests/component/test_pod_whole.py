"""A pod with a claim, a probe and hooks, from the API server to processes of the node and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import CONFIGMAPS, EVENTS, PERSISTENTVOLUMECLAIMS, PODS, STORAGECLASSES, Object
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
