"""What pods on a node of the process runtime may do, and the sizes."""

from __future__ import annotations

from skerry.base.values import Struct


class ProcessSettings(Struct, frozen=True):
    """What pods on this node may do, and the sizes.

    Args:
        node_ip: told as the pods' address.
        uid_base, uid_count: user ids that pods get, in turn, when the agent runs as root.
        use_namespaces: give containers a file system view of their own where the system lets us.
        log_limit_bytes, log_keep_count: rotation of container logs.
        process_count: what each pod may have at most; 0 for any number.
        machine_memory_bytes: for ``oom_score_adj``; 0 where unknown.
    """

    node_ip: str = ""
    allow_host_paths: bool = False
    allow_host_namespaces: bool = False
    allow_privileged: bool = False
    use_namespaces: bool = True
    uid_base: int = 2_000_000
    uid_count: int = 60_000
    log_limit_bytes: int = 10 * 1024 * 1024
    log_keep_count: int = 5
    process_count: int = 0
    machine_memory_bytes: int = 0
