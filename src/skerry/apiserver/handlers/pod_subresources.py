"""``pods/log``: from the node's kubelet interface to the client, piece by piece."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from skerry.api.gvk import Object
from skerry.api.status import ApiError, BadRequest, Unavailable
from skerry.apiserver.calls import Call
from skerry.apiserver.core import ApiCore
from skerry.apiserver.store.log import Key
from skerry.base.net.http_server import ClientGone, HttpRequest, HttpResponse
from skerry.base.obs.log import get_log
from skerry.kube.ports import KubeletRequest, NodeConnector

log = get_log(__name__)

_PASSED = (
    "follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "previous", "limitBytes", "stream",
    "insecureSkipTLSVerifyBackend",
)  # fmt: skip
_TEXT = "text/plain"


class PodLogs:
    """Serves container logs.

    Args:
        core: finds pods and nodes.
        nodes: reaches kubelet interfaces; None when this server has no nodes.
    """

    def __init__(self, core: ApiCore, *, nodes: NodeConnector | None) -> None:
        self._core = core
        self._nodes = nodes

    async def serve(self, request: HttpRequest, call: Call) -> HttpResponse | None:
        """Answer one log request."""
        pod = self._core.objects.find(call).content()
        container = choose_container(pod, call.info.query.get("container", ""))
        node = (pod.get("spec") or {}).get("nodeName", "")
        if not node:
            return HttpResponse(204, b"", _TEXT)
        if self._nodes is None:
            raise Unavailable(f'node "{node}" cannot be reached: this server has no connection to nodes')
        query = urlencode([(name, call.info.query[name]) for name in _PASSED if call.info.query.get(name)])
        path = f"/containerLogs/{call.namespace}/{call.name}/{container}"
        try:
            async with self._nodes.request(node, KubeletRequest("GET", path, query)) as answer:
                if answer.status != 200:
                    return await _refused(answer)
                await self._copy(request, answer)
        except Unavailable as exc:
            raise self._offline(node, exc) from exc
        return None

    @staticmethod
    async def _copy(request: HttpRequest, answer: Any) -> None:
        try:
            async with request.stream(200, content_type=_TEXT) as out:
                # An idle log has nothing to write that would show the departure; the node's stream must end with it.
                task = asyncio.current_task()
                if task is not None:
                    request.on_gone(lambda: _cancel(task))
                try:
                    async for piece in answer.body():
                        await out.write(piece)
                except Unavailable as exc:
                    log.debug("logs.broken", path=request.path, error=str(exc))
                    out.abort()
        except ClientGone:
            return

    def _offline(self, node: str, exc: Unavailable) -> Unavailable:
        """Which node, since when, and what to do."""
        entry = self._core.store.get(Key("nodes", "", node))
        since = _not_ready_since(entry.content()) if entry is not None else ""
        when = f" since {since}" if since else ""
        return Unavailable(
            f'node "{node}" is offline{when}, so its logs cannot be read now: {exc.message}. '
            "The containers go on running and the log is kept on the node; try again when it is back "
            f"(`kubectl get node {node}`, `skerry why node/{node}`)"
        )


def choose_container(pod: Object, asked: str) -> str:
    """The container whose log is meant.

    Raises:
        BadRequest: none of that name, or several and none named.
    """
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    plain = [c["name"] for c in spec.get("containers") or ()]
    init = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if asked:
        if asked not in (*plain, *init, *ephemeral):
            raise BadRequest(f"container {asked} is not valid for pod {name}")
        return asked
    preferred = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if preferred in plain:
        return str(preferred)
    if len(plain) == 1:
        return str(plain[0])
    also = f" or one of the init containers: [{' '.join(init)}]" if init else ""
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(plain)}]{also}")


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _not_ready_since(node: Object) -> str:
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") != "True":
            return str(condition.get("lastTransitionTime") or "")
    return ""


async def _refused(answer: Any) -> HttpResponse:
    """The kubelet's own words."""
    text = b""
    async for piece in answer.body():
        text += piece[: 4096 - len(text)]
    raise kubelet_error(answer.status, text.decode(errors="replace").strip())


def kubelet_error(status: int, text: str) -> ApiError:
    """What a node said no with, as the API says it."""
    if status in (400, 404):
        return BadRequest(text or "the node refused the request")
    return Unavailable(text or f"the node answered {status}")
