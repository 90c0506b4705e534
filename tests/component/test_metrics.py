"""What Prometheus sees of a running fleet, who may look, and the alerts that ship with it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest
from tests.parts import ROOT, PartMissing, fetch

from skerry.base import yaml
from skerry.kube.http import HttpTransport
from skerry.kube.requests import Request
from skerry.testing.site import Site, site, until

RULES = ROOT / "deploy/prometheus"


def values(text: str) -> dict[str, float]:
    """Numbers by series."""
    pairs = (line.rpartition(" ")[::2] for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(number) for series, number in pairs}


async def of_cloud(at: Site) -> dict[str, float]:
    return values(await get(at.transport, "/metrics"))


async def get(transport: HttpTransport, path: str) -> str:
    answer = await transport.send(Request("GET", path))
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def of_agent(at: Site) -> dict[str, float]:
    connector = aiohttp.UnixConnector(path=str(at.agent.ready["sockets"]["kubelet"]))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://node/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return values(await answer.text())


@pytest.mark.timeout(60)
async def test_the_state_of_links_is_measured_on_both_ends(tmp_path: Path) -> None:
    async with site(tmp_path, runtime="process") as at:
        found = await of_cloud(at)
        assert found["skerry_hub_nodes_connected"] == 1
        assert found['skerry_node_ready{node="edge-1"}'] == 1
        assert 'skerry_hub_outbox_deliveries{node="edge-1"}' in found
        assert found['skerry_hub_link_received_bytes_total{node="edge-1"}'] > 500
        assert found['skerry_hub_link_sent_bytes_total{node="edge-1"}'] > 500
        assert abs(found['skerry_hub_link_last_seen_timestamp_seconds{node="edge-1"}'] - time.time()) < 60
        assert any(series.startswith("skerry_api_requests_total{") for series in found)
        assert (await of_agent(at))["skerry_edge_link_up"] == 1

        at.cut()

        async def is_down() -> str:
            agent, cloud = await of_agent(at), await of_cloud(at)
            return "" if (agent["skerry_edge_link_up"], cloud["skerry_hub_nodes_connected"]) == (0, 0) else "still up"

        await until(is_down, within_s=20)


@pytest.mark.timeout(60)
async def test_metrics_are_for_those_who_may(tmp_path: Path) -> None:
    async with site(tmp_path, runtime="process") as at:
        url = at.cloud.ready["endpoints"]["api"]
        stranger = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(connector=stranger) as session, session.get(f"{url}/metrics") as answer:
            assert answer.status in (401, 403)
            assert "skerry_hub" not in await answer.text()
        assert (await at.transport.send(Request("GET", "/metrics/nothing"))).status == 404


def test_the_alerts_fire_when_they_should() -> None:
    try:
        promtool = fetch("promtool", "prometheus")
    except PartMissing as exc:
        pytest.skip(str(exc))
    for words in (["check", "rules", "skerry.rules.yaml"], ["test", "rules", "skerry.rules.test.yaml"]):
        done = subprocess.run(
            [promtool.path, *words], cwd=RULES, env=promtool.env(), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_speak_of_metrics_that_are_there() -> None:
    rules = yaml.load((RULES / "skerry.rules.yaml").read_bytes())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == {"NodeOffline", "CertExpiring", "BacklogGrowing"}
    documented = set(re.findall(r"`(skerry_\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    for rule in rules:
        assert set(re.findall(r"skerry_\w+", rule["expr"])) <= documented
        assert rule["annotations"]["remedy"]
