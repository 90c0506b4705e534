"""Each cause is raised by its fault, and a healthy machine raises none."""

import pytest

from skerry.api.checkup import CloudFacts, EdgeFacts, EngineProbe, MachineFacts, diagnose
from skerry.base.values import replace

GIB = 2**30
DAY_S = 86_400.0
CLOUD = CloudFacts(is_running=True, answers=True)
EDGE = EdgeFacts(
    has_joined=True, is_running=True, certificate_left_s=300 * DAY_S, certificate_age_s=DAY_S, runtime="cri"
)
HEALTHY = MachineFacts(
    now_s=1_800_000_000, disk_free_bytes=50 * GIB, disk_total_bytes=100 * GIB, data="/d", cloud=CLOUD, edge=EDGE
)


def test_healthy_machine_raises_nothing() -> None:
    assert diagnose(HEALTHY) == []


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(HEALTHY, disk_free_bytes=GIB), "SK-E009"),
        (replace(HEALTHY, now_s=5.0), "SK-E010"),
        (replace(HEALTHY, cloud=CloudFacts(is_running=False, answers=False)), "SK-C001"),
        (replace(HEALTHY, cloud=CloudFacts(is_running=True, answers=False)), "SK-C002"),
        (replace(HEALTHY, edge=replace(EDGE, has_joined=False)), "SK-E002"),
        (replace(HEALTHY, edge=replace(EDGE, is_running=False)), "SK-E001"),
        (replace(HEALTHY, edge=replace(EDGE, runtime="process")), "SK-E003"),
        (replace(HEALTHY, edge=replace(EDGE, engine=[EngineProbe("SK-E006", "cni")])), "SK-E006"),
        (replace(HEALTHY, edge=replace(EDGE, rivals=["edgecore"])), "SK-E011"),
        (replace(HEALTHY, edge=replace(EDGE, link_error="refused")), "SK-L002"),
        (replace(HEALTHY, edge=replace(EDGE, link_error="403", link_code="SK-L003")), "SK-L003"),
        (replace(HEALTHY, edge=replace(EDGE, certificate_left_s=10 * DAY_S)), "SK-L004"),
        (replace(HEALTHY, edge=replace(EDGE, certificate_left_s=-1.0)), "SK-L005"),
        (replace(HEALTHY, edge=replace(EDGE, certificate_age_s=-7200.0)), "SK-L005"),
    ],
)
def test_faults(facts: MachineFacts, code: str) -> None:
    assert [finding.cause.code for finding in diagnose(facts)] == [code]


def test_broken_comes_before_risk() -> None:
    facts = replace(HEALTHY, edge=replace(EDGE, runtime="process", is_running=False))
    assert [f.cause.severity for f in diagnose(facts)] == ["broken", "risk"]
