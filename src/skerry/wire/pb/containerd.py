"""What is asked of containerd's own interface, beside CRI: whether it has a record of a container.

Source: containerd api/services/containers/v1/containers.proto (1.6 to 2.x); the namespace goes in a header.
"""

from __future__ import annotations

from typing import Final

from skerry.wire.pb.codec import Interface

GET_CONTAINER: Final = "/containerd.services.containers.v1.Containers/Get"
NAMESPACE_HEADER: Final = "containerd-namespace"
CRI_NAMESPACE: Final = "k8s.io"
"""Where containerd's CRI plugin keeps everything."""

CONTAINERD: Final = Interface(
    messages={
        "GetContainerRequest": {1: ("id", "string", "", "")},
        "GetContainerResponse": {1: ("container", "message", "Container", "")},
        "Container": {1: ("id", "string", "", ""), 2: ("labels", "string", "", "map")},
    },
    enums={},
    methods={GET_CONTAINER: ("GetContainerRequest", "GetContainerResponse", "")},
)
