"""``/containerLogs``: query parameters to log options. Pure."""

from __future__ import annotations

from urllib.parse import parse_qs

from skerry.api.status import BadRequest

_NUMBERS = ("tailLines", "sinceSeconds", "limitBytes")


def log_query(query: str) -> dict[str, str]:
    """The options of a log request by their Kubernetes names; the last value of each counts.

    Raises:
        BadRequest: a number is none, or below what is allowed.
    """
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if "tail" in options and options["tail"] != "all":
        options.setdefault("tailLines", options["tail"])
    for name in _NUMBERS:
        text = options.get(name)
        if text is None:
            continue
        if not text.isdigit() or (name != "tailLines" and int(text) < 1):
            raise BadRequest(
                f"{name} must be a whole number of at least {0 if name == 'tailLines' else 1}, got {text!r}"
            )
    return options


def is_true(options: dict[str, str], name: str) -> bool:
    """Whether a flag is set, as Go's strconv.ParseBool reads it."""
    return options.get(name, "").lower() in ("1", "t", "true")


def number(options: dict[str, str], name: str) -> int | None:
    """A number, or None when it was not given."""
    return int(options[name]) if name in options else None
