"""The authority of another cloud is adopted by a running one, and given back: no node joins again."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.api.gvk import SECRETS
from skerry.api.status import NotFound
from skerry.base import certificates, x509
from skerry.base.x509 import LocalCertifier
from skerry.cloud.join.ca import AuthorityStore
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import client_tls, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join


def node_of(ca: certificates.Credential, name: str) -> certificates.Credential:
    return x509.issue_client(ca, join.common_name(name), organizations=(c.CERT_ORGANIZATION,))


async def goes_by(kit: CloudKit, ca: certificates.Credential) -> None:
    async def look() -> str:
        return "" if kit.authority.ca == ca else "another authority"

    await until(look, within_s=30)


async def test_nodes_of_an_adopted_authority_and_our_own_are_let_in_and_trust_the_server(tmp_path: Path) -> None:
    api, theirs = FakeKubeApi(), FakeKubeApi()
    there = (await AuthorityStore(theirs, ["127.0.0.1"], certs=LocalCertifier()).load()).ca
    async with cloud(api, tmp_path / "cloud") as kit:
        ours = kit.authority.ca
        found = await AuthorityStore(theirs, (), certs=LocalCertifier()).look()
        assert found == (there, ())
        await AuthorityStore(api, (), certs=LocalCertifier()).succeed(*found)
        await goes_by(kit, there)
        for name, ca in (("edge-theirs", there), ("edge-ours", ours)):
            folder = tmp_path / name
            folder.mkdir()
            async with connect(kit.hub_url, name, client_tls(folder, node_of(ca, name), ca.cert_pem)) as node:
                assert not (await node.request("query", f"null/node/{name}")).is_ok
        # What was there before a rollover of theirs comes along.
        again = FakeKubeApi()
        first = (await AuthorityStore(again, ["127.0.0.1"], certs=LocalCertifier()).load()).ca
        await AuthorityStore(again, (), certs=LocalCertifier()).rotate()
        found = await AuthorityStore(again, (), certs=LocalCertifier()).look()
        assert found is not None
        await AuthorityStore(api, (), certs=LocalCertifier()).succeed(*found)
        await goes_by(kit, found[0])
        assert set(kit.authority.trusted) == {found[0].cert_der, first.cert_der, there.cert_der, ours.cert_der}
        for number, ca in enumerate((ours, there, first, found[0])):
            name, folder = f"edge-{number}", tmp_path / str(number)
            folder.mkdir()
            async with connect(kit.hub_url, name, client_tls(folder, node_of(ca, name), ca.cert_pem)) as node:
                assert not (await node.request("query", f"null/node/{name}")).is_ok


async def test_a_given_authority_is_the_other_clouds_and_its_old_server_certificate_goes() -> None:
    theirs, ours = FakeKubeApi(), FakeKubeApi()
    before = await AuthorityStore(theirs, ["10.0.0.1"], certs=LocalCertifier()).load()
    mine = (await AuthorityStore(ours, ["127.0.0.1"], certs=LocalCertifier()).load()).ca
    await AuthorityStore(ours, (), certs=LocalCertifier()).rotate()
    found = await AuthorityStore(ours, (), certs=LocalCertifier()).look()
    assert found is not None and found[1][0].cert_der == mine.cert_der
    await AuthorityStore(theirs, (), certs=LocalCertifier()).give(*found)
    assert await AuthorityStore(theirs, (), certs=LocalCertifier()).look() == found
    with pytest.raises(NotFound):
        await theirs.get(SECRETS, c.SECRET_SERVER, namespace=c.NAMESPACE)
    after = await AuthorityStore(theirs, ["10.0.0.1"], certs=LocalCertifier()).load()
    assert after.server != before.server and x509.is_issued_by(after.server.cert_der, found[0].cert_der)
    # Once more: nothing changes, the server certificate stays.
    await AuthorityStore(theirs, (), certs=LocalCertifier()).give(*found)
    assert await AuthorityStore(theirs, ["10.0.0.1"], certs=LocalCertifier()).load() == after
    # Into a cluster that never had one.
    empty = FakeKubeApi()
    assert await AuthorityStore(empty, (), certs=LocalCertifier()).look() is None
    await AuthorityStore(empty, (), certs=LocalCertifier()).give(*found)
    assert await AuthorityStore(empty, (), certs=LocalCertifier()).look() == found
