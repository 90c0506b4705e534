"""What is wrong with the agent's settings beyond each single word and number."""

from __future__ import annotations

import socket

from skerry.api.config.edge import EdgeConfig


def contradictions(config: EdgeConfig) -> list[str]:
    """What is wrong between settings, or within one that is more than a word or a number; in words."""
    found = []
    if config.image_gc_low_percent > config.image_gc_high_percent:
        found.append(
            f"imageGcLowPercent ({config.image_gc_low_percent}) is above imageGcHighPercent"
            f" ({config.image_gc_high_percent})"
        )
    for key, addresses in (("clusterDns", config.cluster_dns), ("nodeIp", [config.node_ip] if config.node_ip else [])):
        found += [f"{key}: {text!r} is no IP address" for text in addresses if not _is_address(text)]
    return found


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return False
    return True
