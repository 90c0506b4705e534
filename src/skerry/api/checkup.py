"""From facts about one machine to causes: what ``skerry doctor`` says. Pure; ``app/doctor.py`` gathers the facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.api.causes import CauseTable, Finding
from skerry.base.values import Struct, field

_DAY_S = 86_400.0
_EPOCH_FLOOR_S = 1_700_000_000.0
"""No machine that runs this program lives before November 2023."""


class CloudFacts(Struct, frozen=True):
    """What is known of the cloud process on this machine."""

    is_running: bool
    answers: bool
    answer: str = ""


class EngineProbe(Struct, frozen=True):
    """What a probe of the container engine found: a cause code and the engine's words."""

    code: str
    evidence: str


class EdgeFacts(Struct, frozen=True):
    """What is known of the edge agent on this machine.

    Args:
        has_joined: its certificate exists.
        link_error: last failure of the link in words; empty while up or unknown.
        link_code: ``SK-L…`` of that failure.
        certificate_left_s: until the certificate's end; None without one.
        certificate_age_s: since the certificate's start; negative when it is not valid yet.
        runtime: cri, process, or empty when unknown.
        rivals: names of other kubelets that run here.
    """

    has_joined: bool
    is_running: bool
    link_error: str = ""
    link_code: str = ""
    certificate_left_s: float | None = None
    certificate_age_s: float = 0.0
    runtime: str = ""
    engine: Sequence[EngineProbe] = ()
    rivals: Sequence[str] = ()


class MachineFacts(Struct, frozen=True):
    """Everything that ``doctor`` looks at. ``cloud`` and ``edge`` are None where that side is not examined."""

    now_s: float
    disk_free_bytes: int
    disk_total_bytes: int
    data: str
    cloud: CloudFacts | None = None
    edge: EdgeFacts | None = None
    notes: Sequence[str] = field(default=())


def diagnose(facts: MachineFacts) -> list[Finding]:
    """Every cause that the facts prove, the broken ones first."""
    found = _machine(facts)
    if facts.cloud is not None:
        found += _cloud(facts.cloud, facts.data)
    if facts.edge is not None:
        found += _edge(facts.edge, facts.data)
    return sorted(found, key=lambda finding: finding.cause.severity != "broken")


def _machine(facts: MachineFacts) -> list[Finding]:
    table, found = CauseTable(), []
    free = facts.disk_free_bytes / max(1, facts.disk_total_bytes)
    if free < 0.05 or facts.disk_free_bytes < 100 * 1024 * 1024:
        evidence = f"{facts.disk_free_bytes // 2**20} MiB free ({free:.0%}) where {facts.data} lies"
        found.append(table.found("SK-E009", "machine", evidence))
    if facts.now_s < _EPOCH_FLOOR_S:
        found.append(table.found("SK-E010", "machine", f"the clock says {facts.now_s:.0f} s since 1970"))
    return found


def _cloud(cloud: CloudFacts, data: str) -> list[Finding]:
    table = CauseTable()
    if not cloud.is_running:
        return [table.found("SK-C001", "cloud", f"no process of {data}")]
    if not cloud.answers:
        return [table.found("SK-C002", "cloud", cloud.answer)]
    return []


def _edge(edge: EdgeFacts, data: str) -> list[Finding]:
    found: Callable[[str, str], Finding] = lambda code, evidence: CauseTable().found(code, "edge", evidence)  # noqa: E731
    if not edge.has_joined:
        return [found("SK-E002", f"no node certificate in {data}")]
    findings = [] if edge.is_running else [found("SK-E001", f"no process of {data}")]
    if edge.link_error:
        findings.append(found(edge.link_code or "SK-L002", edge.link_error))
    findings += _certificate(edge, found)
    if edge.runtime == "process":
        findings.append(found("SK-E003", "the agent uses the process runtime"))
    findings += [found(probe.code, probe.evidence) for probe in edge.engine]
    findings += [found("SK-E011", f"{rival} runs") for rival in edge.rivals]
    return findings


def _certificate(edge: EdgeFacts, found: Callable[[str, str], Finding]) -> list[Finding]:
    left_s = edge.certificate_left_s
    if left_s is None:
        return []
    if left_s <= 0:
        return [found("SK-L005", f"it ended {-left_s / _DAY_S:.1f} days ago by this machine's clock")]
    if edge.certificate_age_s < 0:
        return [found("SK-L005", f"it begins in {-edge.certificate_age_s / 3600:.1f} h by this machine's clock")]
    if left_s < 30 * _DAY_S:
        return [found("SK-L004", f"{left_s / _DAY_S:.0f} days left")]
    return []
