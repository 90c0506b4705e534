"""Settings of the agent that contradict each other, or are no addresses."""

from typing import Any

import pytest

from skerry.api.config.edge import EdgeConfig
from skerry.app.edge_settings import contradictions


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"image_gc_low_percent": 90}, "imageGcLowPercent"),
        ({"cluster_dns": ("10.0.0.10", "dns.local")}, "dns.local"),
        ({"node_ip": "300.1.1.1"}, "nodeIp"),
    ],
)
def test_what_cannot_be_is_named(settings: dict[str, Any], word: str) -> None:
    [found] = contradictions(EdgeConfig(**settings))
    assert word in found


def test_what_can_be_is_not() -> None:
    assert contradictions(EdgeConfig()) == []
    assert contradictions(EdgeConfig(cluster_dns=("10.0.0.10", "fd00::10"), node_ip="192.0.2.1")) == []
