"""MQTT topic filters.

Source: OASIS MQTT Version 3.1.1 (2014), section 4.7.
"""

from __future__ import annotations


def is_filter(text: str) -> bool:
    """Whether ``text`` is a well-formed filter: ``+`` fills a level, ``#`` is the whole last level."""
    if not text or "\0" in text or len(text.encode()) > 65535:
        return False
    levels = text.split("/")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return False
    return all("+" not in level or level == "+" for level in levels)


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic falls under a filter. A leading wildcard never matches a topic that starts with ``$``."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(levels) or (part != "+" and part != levels[index]):
            return False
    return len(wanted) == len(levels)
