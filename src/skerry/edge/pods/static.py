"""Static pods: manifests in a directory of the node, run without a cloud, shown to it as mirror pods.

A pod ``web`` in ``<directory>/web.yaml`` becomes ``web-<node>``. Its uid is a hash of node and content, so a changed
file is another pod. The mirror in the cluster carries the hash; deleting it there only makes it come back.

Source: kubernetes pkg/kubelet/config/{file,common}.go, pkg/kubelet/pod/mirror_client.go (v1.36).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.status import AlreadyExists, ApiError, ServerTimeout, Unavailable
from skerry.base import json, yaml
from skerry.base.aio.clock import Clock
from skerry.base.files import read_small
from skerry.base.obs.log import get_log
from skerry.edge.pods.ports import NodeObjects
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
MIRROR = "kubernetes.io/config.mirror"
LOOK_S = 10.0
_FILE_BYTES = 1024 * 1024

Ask = Callable[[str, str, Any], Awaitable[Object]]
"""(operation, wire resource, content) → the cloud's answer."""


class Keeper(Protocol):
    """Who runs static pods: ``edge.pods.roster.Roster``."""

    def keep_static(self, pods: Sequence[Object]) -> None:
        """From now on exactly these static pods are wanted."""


def is_mirror(pod: Object) -> bool:
    """Whether a pod of the cluster only shows a static pod."""
    return MIRROR in ((pod.get("metadata") or {}).get("annotations") or {})


def is_static(pod: Object) -> bool:
    """Whether a pod comes from a file."""
    return ((pod.get("metadata") or {}).get("annotations") or {}).get(SOURCE) == "file"


class StaticPods:
    """Reads the directory, has its pods run, and keeps their mirrors.

    Args:
        directory: may be missing; ``*.yaml``, ``*.yml`` and ``*.json`` in it, one pod each.
        objects: the node's store, where mirrors arrive.
    """

    def __init__(
        self, directory: Path, *, node: str, keeper: Keeper, objects: NodeObjects, ask: Ask, clock: Clock
    ) -> None:
        self._directory = directory
        self._node = node
        self._keeper = keeper
        self._objects = objects
        self._ask = ask
        self._clock = clock
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Look every ``LOOK_S``; never ends."""
        while True:
            await self.mirror(self.look())
            await self._clock.sleep(LOOK_S)

    def look(self) -> list[Object]:
        """Read the directory and have its pods run; call it once before the roster starts."""
        pods = list(self._read())
        self._keeper.keep_static(pods)
        return pods

    async def mirror(self, pods: Sequence[Object]) -> None:
        """Bring the mirrors in line as far as the cloud can be asked."""
        wanted = {f"{pod['metadata']['namespace']}/{c.TYPE_POD}/{pod['metadata']['name']}": pod for pod in pods}
        there = {key: pod for key, pod in self._objects.list(c.TYPE_POD).items() if is_mirror(pod)}
        try:
            for key, mirror in there.items():
                pod = wanted.get(key)
                is_going = bool(mirror["metadata"].get("deletionTimestamp"))
                if pod is None or is_going or _hash_of(mirror) != _hash_of(pod):
                    body = {"gracePeriodSeconds": 0, "preconditions": {"uid": mirror["metadata"].get("uid")}}
                    await self._ask(c.OP_DELETE, key, body)
            for key in wanted.keys() - there.keys():
                await self._insert(key, wanted[key])
        except (Unavailable, ServerTimeout) as exc:
            log.debug("static.away", why=str(exc))
        except ApiError as exc:
            log.warning("static.not_mirrored", code=exc.code, why=exc.message)

    async def _insert(self, key: str, pod: Object) -> None:
        metadata = {name: value for name, value in pod["metadata"].items() if name != "uid"}
        annotations = metadata["annotations"] | {MIRROR: _hash_of(pod)}
        try:
            await self._ask(c.OP_INSERT, key, pod | {"metadata": metadata | {"annotations": annotations}})
        except AlreadyExists:
            log.debug("static.mirror_on_its_way", key=key)

    def _read(self) -> Iterator[Object]:
        files = sorted(self._directory.iterdir()) if self._directory.is_dir() else []
        for file in files:
            if file.suffix not in (".yaml", ".yml", ".json") or file.name.startswith("."):
                continue
            why = ""
            try:
                text = read_small(file, limit_bytes=_FILE_BYTES)
                document = json.loads(text) if file.suffix == ".json" else yaml.load(text)
                yield static_pod(document, node=self._node)
            except (OSError, json.JsonError, ValueError) as exc:
                why = str(exc)
            if why and self._said.get(file.name) != why:
                log.error("static.unusable", hint="mend or remove the file", file=str(file), why=why)
            self._said[file.name] = why


def static_pod(document: Any, *, node: str) -> Object:
    """The pod of a manifest as this node runs it.

    Raises:
        ValueError: no pod, or one that needs objects of the cluster.
    """
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        raise ValueError("the file holds no Pod")
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ValueError("the pod has no name")
    if not isinstance(spec, dict) or not spec.get("containers"):
        raise ValueError("the pod has no containers")
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        raise ValueError("a static pod cannot have a service account")
    digest = hashlib.sha256(node.encode() + b"\0" + json.dumps(document, sort_keys=True)).hexdigest()[:32]
    annotations = {str(key): str(value) for key, value in (metadata.get("annotations") or {}).items()}
    own = {
        "name": f"{metadata['name']}-{node}",
        "namespace": str(metadata.get("namespace") or "default"),
        "uid": digest,
        "labels": metadata.get("labels") or {},
        "annotations": annotations | {SOURCE: "file", HASH: digest},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": own, "spec": spec | {"nodeName": node}}


def _hash_of(pod: Object) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return str(annotations.get(MIRROR) or annotations.get(HASH) or "")
