"""Certificates over their whole life: expiry and grace, rollover, revocation, deleted nodes, clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import ENROLMENTS, NODES
from skerry.base import certificates, x509
from skerry.base.aio.supervise import Supervisor
from skerry.base.x509 import LocalCertifier
from skerry.cloud.join.ca import AuthorityStore
from skerry.cloud.join.enrolments import Enrolments
from skerry.edge.link import enrol
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.places import Places
from skerry.testing.clock import VirtualClock
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import Refusal, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge import join
from skerry.wire.kubeedge.envelope import Envelope

DAY_S = 86_400.0


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


class Machine:
    """The part of an agent that keeps its identity, on a clock of its own."""

    def __init__(self, name: str, folder: Path, clock: VirtualClock) -> None:
        self.name = name
        self.clock = clock
        self.files = CertificateFiles(folder / name)
        self.changed = asyncio.Event()
        self.told: list[dict[str, Any]] = []

    async def join(self, kit: CloudKit) -> None:
        token = join.parse_token((await kit.tokens.create(node=self.name))[1])
        await enrol.enrol("127.0.0.1", port_of(kit.join_url), token=token, node=self.name, files=self.files)
        hub, server = ["127.0.0.1", port_of(kit.hub_url)], ["127.0.0.1", port_of(kit.join_url)]
        joined = {"hubs": [hub], "tunnels": [hub], "join": server}
        self.places = Places(self.files.directory / "node.json", joined)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DialledLink]:
        """Link and renewal, as ``app/edge.py`` starts them."""
        link = DialledLink(self.places.hubs, node=self.name, files=self.files, clock=self.clock)
        link.on_state(lambda is_up: self.changed.set())

        async def learn(envelope: Envelope) -> None:
            self.told.append(envelope.content)
            if self.places.learn(envelope.content):
                link.use_addresses(self.places.hubs)
            if self.files.trust(envelope.content["authorities"].encode()):
                link.forget_servers()
            if envelope.content["renew"]:
                link.renew_soon()
            self.changed.set()

        link.on_envelope(learn)
        async with Supervisor(self.name, clock=self.clock) as supervisor:
            supervisor.keep("link", link.run)
            supervisor.keep("certificate", lambda: link.keep_certificate(lambda: self.places.joins))
            yield link

    async def until(self, condition: Any) -> None:
        """Wait, giving the virtual clock of a dialling link the seconds that it backs off."""
        async with asyncio.timeout(15):
            while not condition():
                self.changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()
                except TimeoutError:
                    await self.clock.advance(1.0)

    async def comes(self) -> None:
        """Connect once, and be told what is new."""
        async with self.running() as link:
            before = len(self.told)
            await self.until(lambda: link.is_up and len(self.told) > before)


@pytest.fixture
async def api() -> FakeKubeApi:
    return FakeKubeApi()


async def test_a_certificate_past_its_end_is_refused_with_dates_and_renewed_in_its_grace(
    api: FakeKubeApi, tmp_path: Path
) -> None:
    clock = VirtualClock(start_s=time.time() - 500 * DAY_S)
    async with cloud(api, tmp_path, clock=clock, folds_leases=False) as kit:
        credential = await kit.join("edge-1")
        late = await kit.join("edge-2")
        gone = await kit.join("edge-3")
        await clock.advance(380 * DAY_S)
        with pytest.raises(Refusal) as caught:
            async with connect(kit.hub_url, "edge-1", kit.tls(credential)):
                pass
        assert caught.value.status == 403
        files = CertificateFiles(tmp_path / "edge-1")
        files.directory.mkdir()
        files.ca.write_bytes(kit.ca_pem)
        certificates.save(credential, files.cert, files.key)
        port = port_of(kit.join_url)
        link = DialledLink([("127.0.0.1", port_of(kit.hub_url))], node="edge-1", files=files, clock=clock)
        machine = Machine("edge-1", tmp_path, clock)
        async with Supervisor("agent", clock=clock) as supervisor:
            link.on_state(lambda is_up: machine.changed.set())
            supervisor.keep("link", link.run)
            await machine.until(lambda: "expired on" in link.why_down)
            assert "this cloud's clock says" in link.why_down
            supervisor.keep("certificate", lambda: link.keep_certificate(lambda: [("127.0.0.1", port)]))
            await machine.until(lambda: link.is_up)
        assert await kit.enrolments.revoke("edge-3")
        for name, mine, days, words in (("edge-3", gone, 0, "revoked"), ("edge-2", late, 20, "more than 30 days ago")):
            await clock.advance(days * DAY_S)
            files = CertificateFiles(tmp_path / name)
            files.directory.mkdir()
            files.ca.write_bytes(kit.ca_pem)
            certificates.save(mine, files.cert, files.key)
            with pytest.raises(Exception, match=words):
                await enrol.renew("127.0.0.1", port, node=name, files=files)


async def test_a_certificate_that_is_not_yet_valid_names_the_clocks(api: FakeKubeApi, tmp_path: Path) -> None:
    clock = VirtualClock(start_s=0.0)
    async with cloud(api, tmp_path, clock=clock, folds_leases=False) as kit:
        credential = x509.issue_client(kit.authority.ca, "system:node:edge-1", organizations=("system:nodes",))
        with pytest.raises(Refusal) as caught:
            async with connect(kit.hub_url, "edge-1", kit.tls(credential)):
                pass
    assert caught.value.status == 403


async def test_an_agent_whose_clock_stands_at_1970_says_so_and_goes_on_when_it_is_set(
    api: FakeKubeApi, tmp_path: Path
) -> None:
    async with cloud(api, tmp_path) as kit:
        clock = VirtualClock(start_s=time.time())
        machine = Machine("edge-1", tmp_path, clock)
        await machine.join(kit)
        clock.set(0.0)
        before = machine.files.cert.read_bytes()
        async with machine.running() as link:
            await machine.until(lambda: "not yet valid" in link.why_down)
            assert "1970-01-01" in link.why_down and "set this machine's clock" in link.why_down
            clock.set(time.time())
            await machine.until(lambda: link.is_up)
        assert machine.files.cert.read_bytes() == before


async def boots_at_1970(machine: Machine, kit: CloudKit, *, now_s: float) -> None:
    """After a power cut, before the time service has answered; then its clock is set, and it renews by the new CA."""
    machine.clock.set(0.0)
    async with machine.running() as link:
        await machine.until(lambda: "not yet valid" in link.why_down)
        assert not link.is_up
        machine.clock.set(now_s)
        await machine.until(lambda: link.is_up)
        await machine.until(lambda: any(told["renew"] for told in machine.told))
        await machine.clock.advance(2 * 3600)
        await machine.until(
            lambda: x509.is_issued_by(certificates.from_pem(machine.files.cert.read_bytes()), kit.authority.ca.cert_der)
        )
        await machine.until(lambda: link.is_up)


@pytest.mark.timeout(120)
async def test_400_days_with_renewals_a_rollover_a_node_that_slept_past_expiry_and_a_clock_at_1970(
    api: FakeKubeApi, tmp_path: Path
) -> None:
    clock = VirtualClock(start_s=time.time() - 401 * DAY_S)
    async with cloud(api, tmp_path, clock=clock, folds_leases=False) as kit:
        steady, sleeper = Machine("steady", tmp_path, clock), Machine("sleeper", tmp_path, clock)
        timeless = Machine("timeless", tmp_path, VirtualClock(start_s=clock.now_s()))
        for machine in (steady, sleeper, timeless):
            await machine.join(kit)
            await machine.comes()
        first_ca, first_cert = kit.authority.ca.cert_der, steady.files.cert.read_bytes()
        async with steady.running() as link:
            await steady.until(lambda: link.is_up)
            await clock.advance(30 * DAY_S)
            await AuthorityStore(api, ["127.0.0.1"], clock=clock, certs=LocalCertifier()).rotate()
            await steady.until(lambda: any(told["renew"] for told in steady.told))
            assert len(steady.files.ca.read_bytes().split(b"-----BEGIN")) == 3
            await clock.advance(2 * 3600)
            await steady.until(lambda: steady.files.cert.read_bytes() != first_cert)
            await steady.until(lambda: link.is_up)
            second = certificates.from_pem(steady.files.cert.read_bytes())
            assert kit.authority.ca.cert_der != first_ca
            assert x509.is_issued_by(second, kit.authority.ca.cert_der)
            assert not any(s.open_count == 0 for s in kit.servers[1:])
        for days, is_power_cut in ((100, False), (100, True), (130, False), (20, False)):
            await clock.advance(days * DAY_S)
            async with steady.running() as link:
                await steady.until(lambda: link.is_up)
                if days == 130:  # 330 days old: later than 90 % of its life
                    await steady.until(lambda: certificates.from_pem(steady.files.cert.read_bytes()) != second)
            if is_power_cut:
                await boots_at_1970(timeless, kit, now_s=clock.now_s())
        assert x509.is_issued_by(certificates.from_pem(sleeper.files.cert.read_bytes()), first_ca)
        async with sleeper.running() as link:
            await sleeper.until(lambda: link.is_up)  # 380 days after it joined: 15 days past its end
        await clock.advance(20 * DAY_S)
        assert x509.is_issued_by(certificates.from_pem(sleeper.files.cert.read_bytes()), kit.authority.ca.cert_der)
        retired = certificates.fingerprint(first_ca)
        assert await AuthorityStore(api, ["127.0.0.1"], clock=clock, certs=LocalCertifier()).retire(retired)
        await sleeper.until(lambda: len(kit.authority.trusted) == 1)
        await steady.comes()
        await sleeper.comes()
        timeless.clock.set(clock.now_s())
        await timeless.comes()
        assert await api.list(ENROLMENTS)


async def test_a_token_from_before_a_rollover_still_joins(api: FakeKubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path) as kit:
        token = join.parse_token((await kit.tokens.create(node="edge-1"))[1])
        older = kit.authority.ca.cert_der
        machine = Machine("edge-1", tmp_path, VirtualClock(start_s=time.time()))
        await AuthorityStore(api, ["127.0.0.1"], certs=LocalCertifier()).rotate()
        await machine.until(lambda: kit.authority.ca.cert_der != older)
        await enrol.enrol("127.0.0.1", port_of(kit.join_url), token=token, node="edge-1", files=machine.files)
        newer = join.parse_token((await kit.tokens.create(node="edge-2"))[1])
        assert newer.ca_hash == join.ca_hash(kit.authority.ca.cert_der) != token.ca_hash


async def test_new_addresses_reach_connected_agents_and_stay_with_them(api: FakeKubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path) as kit:
        machine = Machine("edge-1", tmp_path, VirtualClock(start_s=time.time()))
        await machine.join(kit)
        hub = port_of(kit.hub_url)
        async with machine.running() as link:
            await machine.until(lambda: link.is_up and machine.told)
            kit.advertise[:] = ["127.0.0.2", "cloud.example:hub=30000:join=30002"]
            kit.keeper.set_hosts(["127.0.0.1", *kit.advertise])
            await machine.until(lambda: len(machine.places.hubs) == 3)
        assert machine.places.hubs == [("127.0.0.2", hub), ("cloud.example", 30000), ("127.0.0.1", hub)]
        assert {"127.0.0.2", "cloud.example"} <= set(x509.read_certificate(kit.authority.server.cert_der).hosts)
        again = Places(
            machine.files.directory / "node.json", {"hubs": [], "tunnels": [], "joins": []} | machine_json(machine)
        )
        assert again.hubs == machine.places.hubs and again.joins[0][0] == "127.0.0.2"


def machine_json(machine: Machine) -> dict[str, Any]:
    from skerry.base import json

    found: dict[str, Any] = json.loads((machine.files.directory / "node.json").read_bytes())
    return found


async def test_deleting_a_node_revokes_it_until_it_is_restored(api: FakeKubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path) as kit:
        credential = await kit.join("edge-1")
        await api.create(NODES, {"metadata": {"name": "edge-1"}})
        async with connect(kit.hub_url, "edge-1", kit.tls(credential)) as node:
            await node.request("query", "null/node/edge-1")
            await api.delete(NODES, "edge-1")
            async with asyncio.timeout(2):
                await node.until(lambda n: n.ended.is_set())
        async with asyncio.timeout(2):
            while not (record := await kit.enrolments.get("edge-1")) or not record.is_revoked:
                await asyncio.sleep(0)
        assert record.reason == "its Node was deleted from the cluster"
        with pytest.raises(Refusal):
            async with connect(kit.hub_url, "edge-1", kit.tls(credential)):
                pass
        assert await kit.enrolments.restore("edge-1")
        async with connect(kit.hub_url, "edge-1", kit.tls(credential)) as node:
            assert not node.ended.is_set()


async def test_a_revocation_by_anybody_counts_everywhere_at_once(api: FakeKubeApi, tmp_path: Path) -> None:
    """Two replicas; the revocation is a patch of the object, as kubectl does it."""
    async with cloud(api, tmp_path / "a") as one, cloud(api, tmp_path / "b") as two:
        credential = await one.join("edge-1")
        async with connect(two.hub_url, "edge-1", two.tls(credential)) as node:
            await node.request("query", "null/node/edge-1")
            await api.patch(ENROLMENTS, "edge-1", {"spec": {"revoked": True, "reason": "stolen"}})
            async with asyncio.timeout(2):
                await node.until(lambda n: n.ended.is_set())
        for kit in (one, two):
            with pytest.raises(Refusal):
                async with connect(kit.hub_url, "edge-1", kit.tls(credential)):
                    pass
        files = CertificateFiles(tmp_path / "c")
        files.directory.mkdir()
        files.ca.write_bytes(one.ca_pem)
        certificates.save(credential, files.cert, files.key)
        with pytest.raises(Exception, match="stolen"):
            await enrol.renew("127.0.0.1", port_of(two.join_url), node="edge-1", files=files)
    async with cloud(api, tmp_path / "again") as later:
        with pytest.raises(Refusal):
            async with connect(later.hub_url, "edge-1", later.tls(credential)):
                pass


async def test_a_lost_answer_to_a_renewal_locks_nobody_out(api: FakeKubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path) as kit:
        credential = await kit.join("edge-1")
        mine = certificates.fingerprint(credential.cert_der)
        async with connect(kit.hub_url, "edge-1", kit.tls(credential)) as node:
            await node.request("query", "null/node/edge-1")
        enrolments = Enrolments(api, tokens=kit.tokens)
        for _ in range(3):
            lost = x509.issue_client(kit.authority.ca, "system:node:edge-1", organizations=("system:nodes",))
            await enrolments.issued("edge-1", x509.read_certificate(lost.cert_der), proof=mine)
        assert await enrolments.is_good("edge-1", mine)
        async with connect(kit.hub_url, "edge-1", kit.tls(credential)) as node:
            assert not node.ended.is_set()
