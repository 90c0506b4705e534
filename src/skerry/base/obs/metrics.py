"""Counters and gauges with a Prometheus text exposition.

A ``Registry`` belongs to one process and is passed in; there is no global one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LabelValues = tuple[str, ...]


class Metric:
    """A counter or gauge: one number per combination of label values."""

    def __init__(self, name: str, help_text: str, kind: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help_text = help_text
        self.kind = kind
        self.labels = labels
        self._values: dict[LabelValues, float] = {}
        self._read: Callable[[], Iterable[tuple[LabelValues, float]]] | None = None

    def add(self, amount: float = 1.0, *values: str) -> None:
        """Add to the number of these label values."""
        self._values[values] = self._values.get(values, 0.0) + amount

    def set(self, value: float, *values: str) -> None:
        """Set the number of these label values."""
        self._values[values] = value

    def get(self, *values: str) -> float:
        """The number of these label values; 0 if never set."""
        return self._values.get(values, 0.0)

    def read_from(self, source: Callable[[], Iterable[tuple[LabelValues, float]]]) -> None:
        """Take the numbers from ``source`` each time they are asked for."""
        self._read = source

    def lines(self) -> Iterable[str]:
        """The exposition of this metric."""
        yield f"# HELP {self.name} {self.help_text}"
        yield f"# TYPE {self.name} {self.kind}"
        values = self._read() if self._read else sorted(self._values.items())
        for label_values, value in values:
            pairs = ",".join(
                f'{label}="{_escaped(text)}"' for label, text in zip(self.labels, label_values, strict=True)
            )
            yield f"{self.name}{{{pairs}}} {_number(value)}" if pairs else f"{self.name} {_number(value)}"


class Registry:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help_text: str, *labels: str) -> Metric:
        """A number that only grows; its name ends in ``_total``."""
        return self._register(Metric(name, help_text, "counter", labels))

    def gauge(self, name: str, help_text: str, *labels: str) -> Metric:
        """A number that goes up and down."""
        return self._register(Metric(name, help_text, "gauge", labels))

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())

    def names(self) -> list[str]:
        """Every registered name."""
        return sorted(self._metrics)

    def text(self) -> str:
        """The Prometheus text format, version 0.0.4."""
        return "\n".join(line for metric in self._metrics.values() for line in metric.lines()) + "\n"

    def _register(self, metric: Metric) -> Metric:
        if metric.name in self._metrics:
            raise ValueError(f"metric {metric.name} registered twice")
        self._metrics[metric.name] = metric
        return metric


def _number(value: float) -> str:
    """All digits: a time stamp has ten before the point."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
