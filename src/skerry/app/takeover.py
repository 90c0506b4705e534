"""``skerry cloud adopt`` and ``skerry cloud release``: the authority of a cloudcore's nodes comes to us and goes back.
Nodes then change the cloud by dialling it: no node joins again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from skerry.app import client, output
from skerry.app.client import CommandFailed
from skerry.base.certificates import Credential, X509Error, fingerprint
from skerry.base.errors import ConfigError
from skerry.base.x509 import LocalCertifier, load, read_certificate
from skerry.cloud.join.ca import AuthorityStore, OlderAuthority, ca_certificate
from skerry.cloud.join.enrolments import Enrolments
from skerry.cloud.join.tokens import JoinTokens
from skerry.cloud.sync.record import store_id
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import constants as c

Found = tuple[Credential, tuple[OlderAuthority, ...]]
_SECRET = f"{c.NAMESPACE}/{c.SECRET_CA}"


def adopt(
    *, source: Path | None, cert: Path | None, key: Path | None, check_only: bool, kubeconfig: Path | None,
    data: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Go on with a cloudcore's authority; the present one stays trusted."""
    if (source is None) == (cert is None) or (cert is None) != (key is None):
        raise ConfigError(
            "name the authority once", hint="--from KUBECONFIG of cloudcore's cluster, or --cert FILE with --key FILE"
        )

    async def work(api: KubeApi) -> int:
        ours = await _ours(api)
        theirs = await _of_cluster(source, api) if source is not None else (_of_files(cert, key), ())
        _check(theirs[0])
        name = fingerprint(theirs[0].cert_der)
        facts: dict[str, Any] = {"authority": name, "former": fingerprint(ours[0].cert_der), "adopted": False}
        if theirs[0] == ours[0]:
            output.emit(facts, as_json=as_json, text=f"this cloud goes by authority {name[:16]} already")
            return 0
        if check_only:
            output.emit(facts, as_json=as_json, text=f"authority {name[:16]} can be adopted; nothing was changed")
            return 0
        await AuthorityStore(api, (), certs=LocalCertifier()).succeed(*theirs)
        text = (
            f"this cloud goes by authority {name[:16]} from now on; {facts['former'][:16]} stays trusted.\n"
            "Nodes of that cloud are let in as they are: stop it, and let them reach this one under its address\n"
            "(`--advertise`). Pods of the former cluster that still run on them are not this one's: drain them first."
        )
        output.emit(facts | {"adopted": True}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def release(
    *, target: Path, force: bool, check_only: bool, kubeconfig: Path | None, data: Path | None, as_json: bool
) -> int:  # fmt: skip
    """Give the present authority to the cluster of a cloudcore."""

    async def work(api: KubeApi) -> int:
        ca, older = await _ours(api)
        name = fingerprint(ca.cert_der)
        async with client.open_api(target) as other:
            await _check_other(api, other, target)
            store = AuthorityStore(other, (), certs=LocalCertifier())
            there = await store.look()
            known = {ca.cert_der, *(one.cert_der for one in older)}
            if there is not None and there[0].cert_der not in known and not force:
                raise CommandFailed(
                    f"secret {_SECRET} of {target} holds authority {fingerprint(there[0].cert_der)[:16]}, which "
                    "this cloud never had: its nodes would have to join again",
                    hint="is it the right cluster? to replace it all the same add --force",
                )
            stranded = await _nodes_of_others(api, name)
            if stranded and not force:
                raise CommandFailed(
                    f"{len(stranded)} node(s) have certificates of another authority, which cloudcore would refuse: "
                    f"{', '.join(stranded[:5])}{' …' if len(stranded) > 5 else ''}",
                    hint="let them connect, they renew by themselves (`skerry ca list`); or add --force",
                )
            facts: dict[str, Any] = {"authority": name, "nodes": stranded, "released": not check_only}
            if check_only:
                output.emit(facts, as_json=as_json, text="nothing stands against it; nothing was changed")
                return 0
            await store.give(ca, older)
        text = (
            f"authority {name[:16]} is in secret {_SECRET} of that cluster. Stop this cloud, start cloudcore,\n"
            "and let the nodes reach it; nodes with our agent go back with `skerry release`"
        )
        output.emit(facts, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


async def _ours(api: KubeApi) -> Found:
    found = await AuthorityStore(api, (), certs=LocalCertifier()).look()
    if found is None:
        raise ConfigError(f"secret {_SECRET} is missing", hint="start this cloud once: skerry cloud run")
    return found


async def _of_cluster(source: Path, ours: KubeApi) -> Found:
    async with client.open_api(source) as other:
        await _check_other(ours, other, source)
        found = await AuthorityStore(other, (), certs=LocalCertifier()).look()
    if found is None:
        raise ConfigError(
            f"the cluster of {source} has no secret {_SECRET}",
            hint="name the cluster that cloudcore used; or its files, rootCA.crt and rootCA.key, with --cert and --key",
        )
    return found


def _of_files(cert: Path | None, key: Path | None) -> Credential:
    assert cert is not None and key is not None
    try:
        return load(cert, key)
    except X509Error as exc:
        raise ConfigError(f"{cert} and {key} cannot be used: {exc}") from exc


def _check(ca: Credential) -> None:
    info = read_certificate(ca.cert_der)
    if not info.is_ca:
        raise ConfigError(f"the certificate {info.fingerprint[:16]} ({info.common_name}) is no authority's")
    if info.not_after_s <= time.time():
        raise ConfigError(f"authority {info.fingerprint[:16]} has expired", hint="its nodes must join again")


async def _check_other(ours: KubeApi, other: KubeApi, file: Path) -> None:
    ids = [(await store_id(api)).partition("/")[0] for api in (ours, other)]
    if ids[0] and ids[0] == ids[1]:
        raise ConfigError(
            f"{file} is of the cluster that this cloud uses",
            hint="there our cloud and cloudcore share the authority: nothing is to be done",
        )


async def _nodes_of_others(api: KubeApi, present: str) -> list[str]:
    """Nodes with a certificate of ours by another authority than the present one."""
    tokens = JoinTokens(api, ca_der=await ca_certificate(api))
    records = await Enrolments(api, tokens=tokens).all()
    return sorted(r.node for r in records if r.live and not r.is_revoked and r.issuer and r.issuer != present)
