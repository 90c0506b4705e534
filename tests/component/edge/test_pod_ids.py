"""Users and groups that a pod of the process runtime asks for: had by an agent that is root, else refused by name."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import PODS, Object
from skerry.testing.site import Site, site, until

pytestmark = pytest.mark.timeout(120)

_GROUP = 54321


def pod(name: str, security: dict[str, Any]) -> Object:
    script = "id -g > /data/group; id -G > /data/groups; while true; do sleep 0.2; done"
    container = {
        "name": "app", "image": "none", "command": [shutil.which("sh"), "-c", script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
            "securityContext": security, "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }  # fmt: skip


async def waiting(at: Site, name: str) -> str:
    found = (await at.api.get(PODS, name, namespace="default")).get("status") or {}
    states = [container.get("state", {}).get("waiting", {}) for container in found.get("containerStatuses") or []]
    is_refused = [state.get("reason") for state in states] == ["CreateContainerConfigError"]
    return "" if is_refused else f"{name} is {found}"


async def had(at: Site, uid: str, security: dict[str, Any]) -> str:
    data = at.edge_data / "pods" / uid / "volumes/data"
    said = [path.read_text().split() for path in (data / "group", data / "groups") if path.exists()]
    is_had = len(said) == 2 and str(_GROUP) in said[0 if "runAsGroup" in security else 1]
    return "" if is_had else f"the program has {said}"


async def test_groups_are_had_or_refused(tmp_path: Path) -> None:
    asked: dict[str, dict[str, Any]] = {
        "own": {"runAsGroup": _GROUP}, "further": {"supplementalGroups": [_GROUP]}, "of-files": {"fsGroup": _GROUP},
    }  # fmt: skip
    allowed = {"SKERRY_EDGE_ALLOW_PRIVILEGED": "true"}
    async with site(tmp_path, runtime="process", environment=allowed) as at:
        made = {name: await at.api.create(PODS, pod(name, asked[name]), namespace="default") for name in asked}
        for name, security in asked.items():
            uid = str(made[name]["metadata"]["uid"])
            if os.geteuid() == 0:
                await until(partial(had, at, uid, security), within_s=60)
                continue
            await until(partial(waiting, at, name), within_s=60)
            [container] = (await at.api.get(PODS, name, namespace="default"))["status"]["containerStatuses"]
            message, [field] = container["state"]["waiting"]["message"], security
            assert field in message and str(_GROUP) in message and "the agent is not root" in message, message
            assert not (at.edge_data / "pods" / uid / "volumes/data/group").exists()
        await at.reset()
