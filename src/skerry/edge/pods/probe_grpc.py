"""The gRPC health check. Loaded at its first use, because gRPC costs an agent 6 MB that many nodes can do without."""

from __future__ import annotations

from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.wire.pb.health import CHECK, HEALTH, SERVING


async def ask(host: str, port: int, service: str, *, timeout_s: float) -> tuple[bool, str]:
    """Whether ``service`` serves, and the kubelet's words where it does not."""
    client = GrpcClient((host, port), HEALTH)
    try:
        answer = await client.call(CHECK, {"service": service}, timeout_s=timeout_s)
    except GrpcError as exc:
        if exc.status is Status.UNIMPLEMENTED:
            return False, "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return False, f"service unhealthy ({exc.message})"
    finally:
        await client.aclose()
    found = int(answer.get("status", 0))
    names = HEALTH.enums["ServingStatus"]
    return found == SERVING, f"service unhealthy (responded with {names.get(found, str(found))!r})"
