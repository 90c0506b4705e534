"""``skerry node list`` and ``show`` against a cloud with a node: certificate, what waits, what is known."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import NODES, OBJECTSYNCS, PODS
from skerry.app.children import Child, process_environment
from skerry.base import json
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport


async def told(kubeconfig_file: str, *order: str) -> tuple[int, dict[str, Any]]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.cli.main", *order, "--kubeconfig", kubeconfig_file, "-o", "json",
        stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, _ = await child.communicate()
    return child.returncode or 0, json.loads(out) if out.strip() else {}


@pytest.mark.timeout(90)
async def test_a_node_with_a_pod_that_waits_and_one_that_has_arrived(tmp_path: Path) -> None:
    order = ["cloud", "run", "--listen", "127.0.0.1", "--ports", "any", "-o", "json", "--data", str(tmp_path / "cloud")]
    cloud = Child("cloud", order, log_file=tmp_path / "cloud.log", environment=process_environment())
    await cloud.start()
    try:
        file = str(cloud.ready["kubeconfig"])
        transport = HttpTransport(kubeconfig.load(Path(file)))
        api = HttpKubeApi(transport)
        await api.create(NODES, {"metadata": {"name": "gate-1"}})
        uids = {}
        for name in ("here", "late"):
            spec = {"nodeName": "gate-1", "containers": [{"name": "a", "image": "i"}], "tolerations": [
                {"operator": "Exists"}]}  # fmt: skip
            made = await api.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default")
            uids[name] = made["metadata"]["uid"]
        sync = {"metadata": {"name": f"gate-1.{uids['here']}"}, "spec": {"objectKind": "Pod", "objectName": "here"}}
        await api.create(OBJECTSYNCS, sync, namespace="default")
        code, shown = await told(file, "node", "show", "gate-1")
        assert code == 0
        assert {pod["name"]: pod["delivered"] for pod in shown["pods"]} == {"here": True, "late": False}
        assert shown["waiting"] == 1 and shown["certificate"] == "unknown"
        assert shown["link"] is None and shown["backlog"] is None
        link = {"type": "CloudLink", "status": "False", "reason": "Disconnected", "message": "last heard at noon",
                "lastTransitionTime": "2026-01-02T03:04:05Z"}  # fmt: skip
        said = {"status": {"conditions": [link]}}
        await api.patch(NODES, "gate-1", said, patch_type="strategic", subresource="status")
        _, shown = await told(file, "node", "show", "gate-1")
        assert shown["link"] == {
            "status": "False", "reason": "Disconnected", "message": "last heard at noon",
            "since": "2026-01-02T03:04:05Z",
        }  # fmt: skip
        assert [c["message"] for c in shown["conditions"] if c["type"] == "CloudLink"] == [shown["link"]["message"]]
        assert (await told(file, "node", "revoke", "gate-1"))[0] == 0
        _, listed = await told(file, "node", "list")
        assert listed["items"][0]["certificate"] == "revoked: revoked by an administrator"
        assert (await told(file, "node", "restore", "gate-1"))[0] == 0
        assert (await told(file, "node", "restore", "gate-1"))[0] == 1
        _, before = await told(file, "ca", "list")
        assert [item["state"] for item in before["items"]] == ["present"]
        assert (await told(file, "ca", "rotate"))[0] == 0
        _, after = await told(file, "ca", "list")
        assert [item["state"] for item in after["items"]] == ["present", "older"]
        assert after["items"][1]["fingerprint"] == before["items"][0]["fingerprint"]
        assert (await told(file, "ca", "retire", after["items"][0]["fingerprint"]))[0] == 1
        assert (await told(file, "ca", "retire", after["items"][1]["fingerprint"][:12]))[0] == 0
        await transport.aclose()
    finally:
        await cloud.stop()
