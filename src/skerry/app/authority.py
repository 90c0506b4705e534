"""``skerry ca``: the authority of node certificates and its rollover."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from skerry.app import client, output
from skerry.app.client import CommandFailed
from skerry.base.certificates import fingerprint
from skerry.base.x509 import LocalCertifier, read_certificate
from skerry.cloud.join.ca import Authority, AuthorityStore, ca_certificate
from skerry.cloud.join.enrolments import GRACE_S, Enrolments
from skerry.cloud.join.tokens import JoinTokens
from skerry.kube.ports import KubeApi


def ca_list(*, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """The present authority, older ones that are still trusted, and how many nodes each one's certificates serve."""

    async def work(api: KubeApi) -> int:
        authority = await AuthorityStore(api, (), certs=LocalCertifier()).load(may_create=False)
        facts = await _facts(api, authority)
        rows = [(f["fingerprint"][:16], f["state"], f["nodes"], f["ends"]) for f in facts["items"]]
        text = output.table(("FINGERPRINT", "STATE", "NODES", "ENDS"), rows)
        if facts["unknown"]:
            text += f"\n\n{facts['unknown']} node(s) hold a certificate that another cloud issued, of unknown authority"
        output.emit(facts, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def ca_rotate(*, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Make a new authority."""

    async def work(api: KubeApi) -> int:
        authority = await AuthorityStore(api, (), certs=LocalCertifier()).rotate()
        new = fingerprint(authority.ca.cert_der)
        text = (
            f"new authority {new[:16]}; running clouds use it within seconds, connected nodes renew their certificates "
            "within the hour, others when they come.\nThe older one stays trusted: see `skerry ca list`."
        )
        output.emit(await _facts(api, authority), as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def ca_retire(
    *, fingerprint: str, force: bool, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool
) -> int:
    """Trust an older authority no more."""

    async def work(api: KubeApi) -> int:
        authority = await AuthorityStore(api, (), certs=LocalCertifier()).load(may_create=False)
        facts = await _facts(api, authority)
        found = [
            f for f in facts["items"] if len(fingerprint) >= 8 and f["fingerprint"].startswith(fingerprint.lower())
        ]
        if len(found) != 1 or found[0]["state"] != "older":
            raise CommandFailed(
                f"{fingerprint!r} names no older authority",
                hint="give at least 8 digits of it, as `skerry ca list` shows",
            )
        stranded = found[0]["nodes"] + facts["unknown"]
        if stranded and not force:
            raise CommandFailed(
                f"{stranded} node(s) hold certificates of this authority or of an unknown one and would have to join "
                "again",
                hint="wait until they have renewed them (`skerry node list` names them), or add --force",
            )
        await AuthorityStore(api, (), certs=LocalCertifier()).retire(found[0]["fingerprint"])
        text = f"authority {found[0]['fingerprint'][:16]} is trusted no more"
        output.emit({"retired": found[0]["fingerprint"]}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


async def _facts(api: KubeApi, authority: Authority) -> dict[str, Any]:
    tokens = JoinTokens(api, ca_der=await ca_certificate(api))
    records = await Enrolments(api, tokens=tokens).all()
    living = [r for r in records if r.live and not r.is_revoked and _is_living(r.expires_s)]
    items = []
    for number, der in enumerate(authority.trusted):
        info = read_certificate(der)
        items.append(
            {
                "fingerprint": info.fingerprint,
                "state": "older" if number else "present",
                "nodes": sum(record.issuer == info.fingerprint for record in living),
                "ends": time.strftime("%Y-%m-%d", time.gmtime(info.not_after_s)),
            }
        )
    return {"items": items, "unknown": sum(not record.issuer for record in living)}


def _is_living(expires_s: float) -> bool:
    return not expires_s or time.time() < expires_s + GRACE_S
