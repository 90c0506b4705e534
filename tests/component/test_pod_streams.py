"""exec, attach and port-forward from clients as they are, through API server, tunnel, agent and engine, and back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.component.kubectls import KUBECTLS, USUAL
from tests.parts import BUSYBOX_IMAGE, shared_containerd

from skerry.api.gvk import CLUSTERROLEBINDINGS, CLUSTERROLES, PODS, VALIDATINGWEBHOOKS
from skerry.kube.http import Impersonating
from skerry.kube.requests import Request
from skerry.testing.site import Site, site, until

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("containerd")]

SCRIPT = (
    "mkdir -p /www && echo served > /www/index.html && httpd -p 8080 -h /www; while read line; do echo got $line; done"
)

_BY_WEBSOCKET = """
import sys
from kubernetes import client, config
from kubernetes.stream import stream
api = client.CoreV1Api(config.new_client_from_config(sys.argv[1]))
wanted = {"command": sys.argv[2:], "stdout": True, "stderr": True, "stdin": False, "tty": False}
sys.stdout.write(stream(api.connect_get_namespaced_pod_exec, "web", "default", **wanted))
"""


def kubeconfig(at: Site) -> Path:
    return Path(at.cloud.ready["kubeconfig"])


async def kubectl(at: Site, minor: str, *words: str, text: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        KUBECTLS[minor], *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"KUBECONFIG": str(kubeconfig(at)), "HOME": str(at.data)},
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate(text.encode())
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def forwarding(at: Site, minor: str) -> AsyncIterator[int]:
    """The local port of ``kubectl port-forward``."""
    process = await asyncio.create_subprocess_exec(
        KUBECTLS[minor], "port-forward", "web", ":8080", stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"KUBECONFIG": str(kubeconfig(at)), "HOME": str(at.data)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        yield int(line.partition("127.0.0.1:")[2].split()[0])
    finally:
        process.terminate()
        await process.communicate()


async def fetched(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


async def runs(at: Site) -> str:
    found = await at.api.get(PODS, "web", namespace="default")
    phase = str((found.get("status") or {}).get("phase"))
    return "" if phase == "Running" else phase


async def by_websocket(at: Site, *command: str) -> str:
    """What the Python client hears."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _BY_WEBSOCKET, str(kubeconfig(at)), *command, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode()


async def refused_for(at: Site, user: str) -> str:
    """What somebody hears who may only read ``pods/exec``."""
    group = "rbac.authorization.k8s.io"
    role = {"metadata": {"name": user}, "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}]}
    binding = {
        "metadata": {"name": user}, "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": user, "apiGroup": group},
    }  # fmt: skip
    await at.api.create(CLUSTERROLES, role)
    await at.api.create(CLUSTERROLEBINDINGS, binding)
    reader = Impersonating(at.transport, user=user, group="people")
    answer = await reader.send(Request("GET", "/api/v1/namespaces/default/pods/web/exec", (("command", "id"),)))
    assert answer.status == 403
    return answer.body.decode()


async def test_streams_into_a_pod_of_a_container_engine(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = shared_containerd(request.config)
    async with site(tmp_path, runtime="cri", cri_socket=engine.socket) as at:
        container = {"name": "app", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", SCRIPT], "stdin": True}
        found = {"metadata": {"name": "web"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
        await at.api.create(PODS, found, namespace="default")
        await until(lambda: runs(at), within_s=60)
        for minor in [minor for minor in (USUAL[0], USUAL[-1]) if minor in KUBECTLS]:
            code, out, err = await kubectl(at, minor, "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
            assert (code, out) == (3, "out\n") and err.startswith("err\n"), minor
            assert (await kubectl(at, minor, "exec", "-i", "web", "--", "cat", text="in\n"))[:2] == (0, "in\n")
            async with forwarding(at, minor) as port:
                assert (await fetched(port)).endswith(b"served\n")
        big = "x" * 1_000_000
        assert await by_websocket(at, "echo", "by websocket") == "by websocket\n"
        newest = max(KUBECTLS, key=lambda minor: int(minor.partition(".")[2]))
        assert (await kubectl(at, newest, "exec", "-i", "web", "--", "cat", text=big))[1] == big
        code, _, err = await kubectl(at, newest, "exec", "web", "-c", "nope", "--", "id")
        assert code == 1 and "container nope is not valid for pod web" in err
        assert 'cannot create resource \\"pods/exec\\"' in await refused_for(at, "reader")
        await at.api.create(VALIDATINGWEBHOOKS, unreachable_webhook())
        code, _, err = await kubectl(at, newest, "attach", "web")
        assert code == 1 and "no-attach.example" in err
        await at.cloud.stop()
        await at.reset()


def unreachable_webhook() -> dict[str, object]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/attach"]}
    hook = {
        "name": "no-attach.example.com", "rules": [rule], "clientConfig": {"url": "https://127.0.0.1:1/"},
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
    }  # fmt: skip
    return {"metadata": {"name": "no-attach"}, "webhooks": [hook]}


async def test_a_node_without_an_engine_says_why_there_are_no_streams(tmp_path: Path) -> None:
    newest = max(KUBECTLS, key=lambda minor: int(minor.partition(".")[2]))
    async with site(tmp_path, runtime="process") as at:
        container = {"name": "app", "image": "label", "command": ["/bin/sleep", "300"]}
        found = {"metadata": {"name": "web"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
        await at.api.create(PODS, found, namespace="default")
        await until(lambda: runs(at), within_s=60)
        code, _, err = await kubectl(at, newest, "exec", "web", "--", "id")
        assert code == 1 and "needs a container engine" in err
        code, _, err = await kubectl(at, newest, "port-forward", "web", ":80")
        assert code == 1 and "needs a container engine" in err
        await at.reset()
