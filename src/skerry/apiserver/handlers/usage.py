"""``metrics.k8s.io``: what nodes and pods use, made when asked for. Never stored, and nothing to watch.

Source: kubernetes staging/src/k8s.io/metrics/pkg/apis/metrics/v1beta1/types.go (v1.36); metrics-server pkg/api (which
objects are shown, labels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from skerry.api.gvk import NODES, PODS, Object
from skerry.api.meta import rfc3339
from skerry.api.status import not_found
from skerry.apiserver.calls import Answer, Call, ListAnswer
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.node_usage import NodeUsage, NodeUsages, Usage
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.store.entry import Entry, encode
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.watch import Collection


class Usages:
    """Answers for nodes and pods.

    Args:
        usages: of the nodes.
        semantics: for selectors.
        collection: the stored objects of a group resource.
        rv: the server's newest revision.
    """

    def __init__(
        self,
        usages: NodeUsages,
        *,
        semantics: Semantics,
        collection: Callable[[str], Collection],
        rv: Callable[[], int],
    ) -> None:
        self._usages = usages
        self._semantics = semantics
        self._collection = collection
        self._rv = rv

    async def get(self, call: Call) -> Answer:
        """The usage of one node or pod.

        Raises:
            NotFound: there is no such object, or its usage is not known.
        """
        entry = self._of(call).get(call.namespace, call.name)
        found = await self._made(call, [entry] if entry is not None else [])
        if not found:
            raise not_found(call.kind.resource.group_resource, call.name)
        return Answer(200, found[0])

    async def page(self, call: Call, options: ListOptions) -> ListAnswer:
        """The usage of every node or pod that the selectors match and of which it is known."""
        matches = self._semantics.matcher(call.kind, options.label_selector, options.field_selector)
        entries = self._of(call).entries(call.namespace or None)
        wanted = [entry for entry in entries if matches is None or matches(entry)]
        return ListAnswer(await self._made(call, wanted), self._rv())

    def _of(self, call: Call) -> Collection:
        return self._collection((PODS if call.kind.resource.namespaced else NODES).group_resource)

    async def _made(self, call: Call, entries: Iterable[Entry]) -> list[Entry]:
        if not call.kind.resource.namespaced:
            nodes = {entry.key.name: entry for entry in entries}
            found = await self._usages.of(nodes)
            return [
                _entry(nodes[name], usage, {"usage": _text(usage.node)}) for name, usage in found.items() if usage.node
            ]
        places = {entry: str((entry.content().get("spec") or {}).get("nodeName") or "") for entry in entries}
        found = await self._usages.of(filter(None, places.values()))
        made = []
        for entry, node in places.items():
            usage = found.get(node)
            containers = usage.pods.get(entry.uid) if usage is not None else None
            if usage is not None and containers:
                listed = [{"name": name, "usage": _text(used)} for name, used in containers.items()]
                made.append(_entry(entry, usage, {"containers": listed}))
        return made


def _entry(source: Entry, usage: NodeUsage, more: Object) -> Entry:
    metadata: Object = {"name": source.key.name, "creationTimestamp": rfc3339(usage.at_s)}
    if source.key.ns:
        metadata["namespace"] = source.key.ns
    if labels := source.labels():
        metadata["labels"] = labels
    content = {"metadata": metadata, "timestamp": rfc3339(usage.at_s), "window": f"{usage.window_s:.3f}s", **more}
    return Entry(Key("", source.key.ns, source.key.name), "", 0, 0, encode(content))


def _text(used: Usage | None) -> Mapping[str, str]:
    return {"cpu": f"{used.cpu_nanocores}n", "memory": f"{used.memory_bytes // 1024}Ki"} if used is not None else {}
