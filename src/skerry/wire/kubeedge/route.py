"""The resource path of an envelope: ``<namespace>/<type>[/<name>]`` and its relatives.

Inside a Go cloud the path begins with ``node/<node>/``; on the wire it never does. Cluster-scoped objects use the
namespace literal ``null``. Names are not escaped, so a part holds no slash.

Source: kubeedge cloud/pkg/common/messagelayer/util.go, cloud/pkg/cloudhub/common/helper.go:TrimMessage (v1.23).
"""

from __future__ import annotations

from itertools import pairwise

from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import constants as c

MAX_PATH_BYTES = 1024
_MAX_NAME_BYTES = 253


class Route(Struct, frozen=True):
    """An object or a collection.

    Args:
        namespace: empty for cluster-scoped objects.
        type: lower-case kind, such as ``pod``.
        name: empty for a collection.
    """

    namespace: str
    type: str
    name: str = ""

    @property
    def path(self) -> str:
        """As written on the wire."""
        return build(self.namespace, self.type, self.name)


def build(namespace: str, type_: str, name: str = "") -> str:
    """``<namespace or null>/<type>[/<name>]``.

    Raises:
        Malformed: a part is empty where it must not be, or holds a slash or control character.
    """
    parts = [namespace or c.NO_NAMESPACE, type_, *([name] if name else [])]
    for part in parts:
        _check_part(part)
    return "/".join(parts)


def parse(path: str, *, limit_bytes: int = MAX_PATH_BYTES) -> Route:
    """Split a path into namespace, type and name.

    Args:
        path: ``<namespace>/<type>[/<name>]``, without the node prefix.
        limit_bytes: longest path accepted.

    Raises:
        Malformed: fewer than two parts, more than three, an empty one, or one with control characters.
        TooLarge: longer than ``limit_bytes``.
    """
    if len(path) > limit_bytes:
        raise TooLarge(f"resource path of {len(path)} bytes is longer than {limit_bytes} bytes")
    parts = path.split("/")
    if not 2 <= len(parts) <= 3:
        raise Malformed(f"resource path {path[:80]!r} has {len(parts)} parts instead of 2 or 3")
    for part in parts:
        _check_part(part)
    namespace = "" if parts[0] == c.NO_NAMESPACE else parts[0]
    return Route(namespace, parts[1], parts[2] if len(parts) == 3 else "")


def resource_type(path: str) -> str:
    """The word by which a hub chooses the handler of a path; never fails, empty for an unreadable path.

    ========================================  =========================
    path                                      type
    ========================================  =========================
    ``<namespace>/<type>[/<name>]``           ``<type>``
    ``device/<namespace>/<name>/<suffix>``    ``device/<suffix>``
    ``membership``, ``membership/detail``     itself
    ``k8s/ca.crt``, ``watchapp/sync``         itself
    ``null``, ``node``, ``skerry/holdings``   itself
    ``operations.kubeedge.io/…``              ``operations.kubeedge.io``
    ========================================  =========================
    """
    if len(path) > MAX_PATH_BYTES:
        return ""
    if path in _WHOLE:
        return path
    parts = path.split("/")
    if parts[0] == c.TYPE_JOBS:
        return c.TYPE_JOBS
    if parts[0] == c.TYPE_DEVICE and len(parts) > 3:
        return "/".join([c.TYPE_DEVICE, *parts[3:]])
    return parts[1] if len(parts) in (2, 3) else ""


_WHOLE = frozenset(
    {
        c.RESOURCE_KEEPALIVE,
        c.RESOURCE_CLUSTER_CA,
        c.RESOURCE_WATCH_SYNC,
        c.RESOURCE_APPLICATION,
        c.RESOURCE_ACKS,
        c.RESOURCE_CLOUD,
        c.RESOURCE_HOLDINGS,
        "membership",
        "membership/detail",
    }
)


def trim_node(path: str) -> str:
    """Take ``node/<node>/`` off the front, as the cloud does before it sends.

    Upstream's rule is looser (any path that begins with the letters ``node``); here the first part must be ``node``,
    because a namespace such as ``node-tools`` would lose two parts otherwise.
    """
    parts = path.split("/", 2)
    return parts[2] if len(parts) == 3 and parts[0] == "node" else path


def add_node(node: str, path: str) -> str:
    """Put ``node/<node>/`` in front, as a Go cloud does on receipt."""
    _check_part(node)
    return f"node/{node}/{path}"


def node_of(path: str) -> str:
    """The node of a path inside the cloud: the part after the first ``node``; empty when there is none.

    Source: cloud/pkg/cloudhub/common/helper.go:GetNodeID.
    """
    parts = path.split("/")
    for part, following in pairwise(parts):
        if part == "node":
            return following
    return ""


def _check_part(part: str) -> None:
    if not part:
        raise Malformed("resource path has an empty part")
    if len(part) > _MAX_NAME_BYTES:
        raise TooLarge(f"part of a resource path is longer than {_MAX_NAME_BYTES} bytes")
    if "/" in part or not part.isprintable():
        raise Malformed(f"part {part[:80]!r} of a resource path holds a slash or a control character")
