"""The gRPC health interface, which containers serve for ``grpc`` probes.

Source: grpc/grpc-proto grpc/health/v1/health.proto.
"""

from __future__ import annotations

from typing import Final

from skerry.wire.pb.codec import Interface

CHECK: Final = "/grpc.health.v1.Health/Check"
SERVING: Final = 1

HEALTH: Final = Interface(
    messages={
        "HealthCheckRequest": {1: ("service", "string", "", "")},
        "HealthCheckResponse": {1: ("status", "enum", "ServingStatus", "")},
    },
    enums={"ServingStatus": {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}},
    methods={CHECK: ("HealthCheckRequest", "HealthCheckResponse", "")},
)
