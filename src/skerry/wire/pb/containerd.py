"""What is asked of containerd's own interface, beside CRI: whether it has a record of a container, and leases.

Source: containerd api/services/{containers/v1/containers,leases/v1/leases}.proto (1.6 to 2.x);
the namespace goes in a header.
"""

from __future__ import annotations

from typing import Final

from skerry.wire.pb.codec import Interface

GET_CONTAINER: Final = "/containerd.services.containers.v1.Containers/Get"
CREATE_LEASE: Final = "/containerd.services.leases.v1.Leases/Create"
DELETE_LEASE: Final = "/containerd.services.leases.v1.Leases/Delete"
LIST_LEASES: Final = "/containerd.services.leases.v1.Leases/List"
LEASE_HEADER: Final = "containerd-lease"
"""Puts what a call fetches into a lease that is there already."""
EXPIRE_LABEL: Final = "containerd.io/gc.expire"
NAMESPACE_HEADER: Final = "containerd-namespace"
CRI_NAMESPACE: Final = "k8s.io"
"""Where containerd's CRI plugin keeps everything."""

CONTAINERD: Final = Interface(
    messages={
        "GetContainerRequest": {1: ("id", "string", "", "")},
        "GetContainerResponse": {1: ("container", "message", "Container", "")},
        "Container": {1: ("id", "string", "", ""), 2: ("labels", "string", "", "map")},
        "CreateLeaseRequest": {1: ("id", "string", "", ""), 3: ("labels", "string", "", "map")},
        "DeleteLeaseRequest": {1: ("id", "string", "", ""), 2: ("sync", "bool", "", "")},
        "LeaseAnswer": {},
        "ListLeasesRequest": {1: ("filters", "string", "", "repeated")},
        "ListLeasesResponse": {1: ("leases", "message", "Lease", "repeated")},
        "Lease": {
            1: ("id", "string", "", ""),
            2: ("created_at", "message", "Timestamp", ""),
            3: ("labels", "string", "", "map"),
        },
        "Timestamp": {1: ("seconds", "int64", "", ""), 2: ("nanos", "int32", "", "")},
    },
    enums={},
    methods={
        GET_CONTAINER: ("GetContainerRequest", "GetContainerResponse", ""),
        CREATE_LEASE: ("CreateLeaseRequest", "LeaseAnswer", ""),
        DELETE_LEASE: ("DeleteLeaseRequest", "LeaseAnswer", ""),
        LIST_LEASES: ("ListLeasesRequest", "ListLeasesResponse", ""),
    },
)
