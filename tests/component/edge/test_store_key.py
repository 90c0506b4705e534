"""The key of sealed rows changes under a node that is offline: nothing is lost with it where it can be had, and where
it cannot, the node comes back all the same and asks for what only the old one opens.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from tests.parts import fetch

from skerry.api.gvk import EVENTS, PODS, SECRETS, Object
from skerry.base import json
from skerry.testing.site import Site, pod_state, site, until

pytestmark = pytest.mark.timeout(180)

_SCRIPT = 'rm -f /data/end; echo "$KEY" >> /data/keys; while [ ! -e /data/end ]; do sleep 0.2; done; exit 1'


def pod() -> Object:
    container = {
        "name": "app", "image": "none", "command": [shutil.which("sh"), "-c", _SCRIPT],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
            "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }  # fmt: skip


async def test_from_a_file_to_the_machines_vault_and_over_its_loss(tmp_path: Path) -> None:
    part = fetch("systemd-creds", "systemd", "libsystemd-shared")
    host_key = tmp_path / "host-key"
    environment = {
        **part.environment, "PATH": f"{part.path.parent}:{os.environ['PATH']}",
        "SYSTEMD_CREDENTIAL_SECRET": str(host_key),
    }  # fmt: skip
    async with site(tmp_path, runtime="process", environment=environment) as at:
        await at.api.create(SECRETS, {"metadata": {"name": "keys"}, "data": {"key": "b25l"}}, namespace="default")
        made = await at.api.create(PODS, pod(), namespace="default")
        data = at.edge_data / "pods" / str(made["metadata"]["uid"]) / "volumes/data"
        await until(lambda: _ran(data, times=1), within_s=60)
        assert _keys(at) == {"store.key"}

        at.cut()
        await at.agent.kill()
        _set(at, "host")
        await at.agent.start()
        await until(lambda: _source(at, "host"), within_s=30)
        assert _keys(at) == {"store-key.host.cred"}, "the key in the clear is gone as soon as nothing needs it"
        _end(data)
        await until(lambda: _ran(data, times=2), within_s=60)
        assert "row_lost" not in at.agent.log_file.read_text()

        await at.agent.kill()
        host_key.unlink()
        await at.agent.start()
        log = at.agent.log_file.read_text()
        assert re.search(r"store\.key_lost.*store-key\.host\.cred", log), "said, with the file"
        assert re.search(r"store\.row_lost.*default/secret/keys", log)
        assert _keys(at) == {"store-key.host.cred"}
        _end(data)
        at.agent.log_file.write_text("")
        await until(lambda: _held(at), within_s=60)
        assert not await _ran(data, times=2), "it does not run without its Secret"

        at.mend()
        await until(lambda: _ran(data, times=3), within_s=120)
        await until(lambda: _runs(at), within_s=60)
        told = [str(event.get("message")) for event in (await at.api.list(EVENTS, namespace="default")).items]
        assert [message for message in told if "keys" in message], told
        await at.reset()


def _set(at: Site, source: str) -> None:
    file = at.edge_data / "edge.yaml"
    file.write_bytes(json.dumps({**json.loads(file.read_bytes()), "storeKey": source}))


def _keys(at: Site) -> set[str]:
    return {path.name for path in at.edge_data.iterdir() if path.name.startswith(("store.key", "store-key"))}


def _end(data: Path) -> None:
    (data / "end").touch()


async def _source(at: Site, wanted: str) -> str:
    found = json.loads((at.edge_data / "status.json").read_bytes()).get("store_key")
    return "" if found == wanted else f"the key is in {found}"


async def _ran(data: Path, *, times: int) -> str:
    keys = (data / "keys").read_text().split() if (data / "keys").exists() else []
    return "" if keys == ["one"] * times else f"it had {keys}"


async def _runs(at: Site) -> str:
    found = await at.api.get(PODS, "web", namespace="default")
    ready = [each["ready"] for each in (found.get("status") or {}).get("containerStatuses") or []]
    return "" if ready == [True] else pod_state(found)


async def _held(at: Site) -> str:
    [found] = json.loads((at.edge_data / "status.json").read_bytes())["pods"]
    is_said = re.match('CreateContainerConfigError: secret "keys" is not on this node', found["why"])
    return "" if is_said else f"nothing says why: {found}"
