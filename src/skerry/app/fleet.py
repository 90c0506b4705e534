"""``skerry token`` and ``skerry node``: join tokens, and nodes as the link sees them."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from skerry.api.gvk import LEASES, NODES, OBJECTSYNCS, PODS, Object
from skerry.api.status import NotFound
from skerry.app import client, output
from skerry.app.client import CommandFailed
from skerry.app.places import split_address
from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.net.hosts import in_url
from skerry.base.netif import is_loopback
from skerry.cloud.join.ca import ca_certificate
from skerry.cloud.join.enrolments import Enrolment, Enrolments
from skerry.cloud.join.tokens import JoinTokens
from skerry.cloud.sync.link_state import BACKLOG, LINK
from skerry.kube.ports import KubeApi
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge.constants import PORT_JOIN

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LEASES = "kube-node-lease"
_LONGEST_S = 3650 * 86_400.0


def token_create(
    *, node: str | None, uses: int | None, ttl: str, address: str | None, kubeconfig: Path | None, data: Path | None,
    namespace: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Make a token and print the join command."""
    ttl_s = duration_s(ttl)
    host, port, warning = _join_address(data, address)
    if node and uses is not None:
        raise ConfigError("--node and --uses exclude each other", hint="a token for one node name is good once")

    async def work(api: KubeApi) -> int:
        tokens = await _tokens(api)
        try:
            token, text = await tokens.create(node=node or "", uses=1 if uses is None else uses, ttl_s=ttl_s)
        except (ValueError, ProtocolError) as exc:
            raise ConfigError(str(exc)) from exc
        if warning:
            output.progress(f"warning: {warning}")
        shown_host = in_url(host)
        command = f"skerry join {shown_host}{f':{port}' if port != PORT_JOIN else ''} --token {text}"
        if node:
            command += f" --node {node}"
        facts = {
            "id": token.id, "token": text, "node": token.node, "uses": token.uses, "expires_s": token.expires_s,
            "command": command, "join": {"address": f"{shown_host}:{port}"},
            "warning": warning,
        }  # fmt: skip
        shown = (
            f"{command}\n\nGood for {node or f'{token.uses} node(s)'} until {_when(token.expires_s)}. Shown only now."
        )
        output.emit(facts, as_json=as_json, text=shown)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def token_list(*, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """List tokens."""

    async def work(api: KubeApi) -> int:
        found = await (await _tokens(api)).list()
        rows = [(t.id, t.node or "any", t.uses_left, _left(t.expires_s), ",".join((*t.taken, *t.spent))) for t in found]
        facts = {
            "items": [
                {
                    "id": t.id,
                    "node": t.node,
                    "usesLeft": t.uses_left,
                    "expires_s": t.expires_s,
                    "nodes": [*t.taken, *t.spent],
                }
                for t in found
            ]
        }
        text = output.table(("ID", "NODE", "USES LEFT", "EXPIRES IN", "USED BY"), rows) if rows else "no tokens"
        output.emit(facts, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def token_revoke(
    *, token_id: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool
) -> int:
    """Make a token useless."""

    async def work(api: KubeApi) -> int:
        if not await (await _tokens(api)).revoke(token_id):
            raise CommandFailed(f"there is no token {token_id}", hint="see `skerry token list`")
        output.emit({"revoked": token_id}, as_json=as_json, text=f"token {token_id} revoked")
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def node_list(*, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Nodes with the state of their link."""

    async def work(api: KubeApi) -> int:
        leases = {lease["metadata"]["name"]: lease for lease in (await api.list(LEASES, namespace=_LEASES)).items}
        records = await _enrolments(api)
        nodes = (await api.list(NODES)).items
        facts = [_node_facts(node, leases.get(_name(node)), records.get(_name(node))) for node in nodes]
        known = set(map(_name, nodes))
        facts += [_absent_facts(record) for name, record in sorted(records.items()) if name not in known]
        keys = ("name", "status", "lastSeen", "certificate", "runtime", "version", "address")
        rows = [tuple(fact[key] for key in keys) for fact in facts]
        headers = ("NAME", "STATUS", "LAST SEEN", "CERTIFICATE", "RUNTIME", "VERSION", "ADDRESS")
        text = output.table(headers, rows) if rows else "no nodes; add one with: skerry token create --node NAME"
        output.emit({"items": facts}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def node_show(*, name: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """One node: link, conditions, pods."""

    async def work(api: KubeApi) -> int:
        node = await api.get(NODES, name)
        facts = _node_facts(node, await _lease(api, node), (await _enrolments(api)).get(name))
        conditions = node.get("status", {}).get("conditions", [])
        pods = (await api.list(PODS, field_selector=f"spec.nodeName={name}")).items
        facts["conditions"] = [{k: c.get(k) for k in ("type", "status", "reason", "message")} for c in conditions]
        delivered = await _delivered(api, name)
        facts["pods"] = [_pod_facts(pod, is_delivered=pod["metadata"].get("uid") in delivered) for pod in pods]
        facts["waiting"] = sum(not pod["delivered"] for pod in facts["pods"])
        facts["link"], facts["backlog"] = _said(conditions, LINK), _said(conditions, BACKLOG)
        keys = ("name", "status", "lastSeen", "certificate", "runtime", "version", "address")
        shown = {key: facts[key] for key in keys} | {
            key: f"{facts[key]['message']} (since {facts[key]['since']})" for key in ("link", "backlog") if facts[key]
        }
        head = "\n".join(f"{key:<12} {value}" for key, value in shown.items())
        rows = [(c["type"], c["status"], c["reason"], c["message"]) for c in facts["conditions"]]
        text = head + "\n\n" + output.table(("CONDITION", "STATUS", "REASON", "MESSAGE"), rows)
        pod_rows = [
            (p["namespace"], p["name"], p["phase"], p["restarts"], p["age"], "yes" if p["delivered"] else "waits")
            for p in facts["pods"]
        ]
        heads = ("NAMESPACE", "POD", "LAST KNOWN PHASE", "RESTARTS", "AGE", "ON THE NODE")
        text += "\n\n" + (output.table(heads, pod_rows) if pod_rows else "no pods")
        if facts["status"] != "Ready":
            text += f"\n\nphases are those last heard, {facts['lastSeen']}; what waits goes out when the node is back"
        output.emit(facts, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def node_revoke(*, name: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Refuse a node's certificate from now on."""

    async def work(api: KubeApi) -> int:
        enrolments = Enrolments(api, tokens=await _tokens(api))
        if await enrolments.get(name) is None and not await _exists(api, name):
            raise CommandFailed(
                f'node "{name}" has no certificate that could be revoked', hint="see `skerry node list`"
            )
        if not await enrolments.revoke(name):
            raise CommandFailed(f'node "{name}" is revoked already', hint=f"undo it with: skerry node restore {name}")
        text = (
            f"node {name}: certificate revoked; it must join again with a new token. "
            f"`skerry node restore {name}` undoes it"
        )
        output.emit({"revoked": name}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def node_restore(*, name: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Undo a revocation."""

    async def work(api: KubeApi) -> int:
        if not await Enrolments(api, tokens=await _tokens(api)).restore(name):
            raise CommandFailed(f'node "{name}" is not revoked', hint="see `skerry node list`")
        text = f"node {name}: its certificate is good again"
        output.emit({"restored": name}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def duration_s(text: str) -> float:
    """``90s``, ``30m``, ``24h``, ``7d`` in seconds.

    Raises:
        ConfigError: another form.
    """
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not int(found[1]):
        raise ConfigError(f"{text!r} is no duration", hint="write it as 30m, 24h or 7d")
    seconds = float(found[1]) * _UNITS_S[found[2]]
    if seconds > _LONGEST_S:
        raise ConfigError(f"{text!r} is too long", hint="at most 3650d")
    return seconds


async def _tokens(api: KubeApi) -> JoinTokens:
    tokens = JoinTokens(api, ca_der=await ca_certificate(api))
    await tokens.load()
    return tokens


async def _enrolments(api: KubeApi) -> dict[str, Enrolment]:
    """By node; none on a cluster that does not know the kind (a cloud of an older version)."""
    try:
        return {record.node: record for record in await Enrolments(api, tokens=await _tokens(api)).all()}
    except NotFound:
        return {}


async def _exists(api: KubeApi, name: str) -> bool:
    try:
        await api.get(NODES, name)
    except NotFound:
        return False
    return True


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


async def _lease(api: KubeApi, node: Object) -> Object | None:
    try:
        return await api.get(LEASES, node["metadata"]["name"], namespace=_LEASES)
    except NotFound:
        return None


def _certificate(record: Enrolment | None) -> str:
    """What is left of a node's certificate, in words."""
    if record is None or (not record.live and not record.is_revoked):
        return "unknown"
    if record.is_revoked:
        return f"revoked: {record.reason}" if record.reason else "revoked"
    if not record.expires_s:
        return "adopted"
    left_s = record.expires_s - time.time()
    return f"{left_s / 86_400:.0f} days left" if left_s > 0 else f"expired {output.age(-left_s)} ago"


def _absent_facts(record: Enrolment) -> dict[str, Any]:
    """A node that has a certificate and no Node."""
    status = "Removed" if record.is_revoked else "Joining"
    return {
        "name": record.node, "status": status, "lastSeen": "never", "lastSeen_s": 0.0,
        "certificate": _certificate(record), "certificateEnds_s": record.expires_s, "runtime": "", "version": "",
        "address": record.address,
    }  # fmt: skip


def _node_facts(node: Object, lease: Object | None, record: Enrolment | None) -> dict[str, Any]:
    status = node.get("status", {})
    conditions = {item.get("type"): item for item in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status")
    seen = _parsed((lease or {}).get("spec", {}).get("renewTime"))
    addresses = {item.get("type"): item.get("address") for item in status.get("addresses", [])}
    info = status.get("nodeInfo", {})
    return {
        "name": node["metadata"]["name"],
        "status": "Ready"
        if ready == "True"
        else f"Offline for {output.age(time.time() - seen)}"
        if seen
        else "NotReady",
        "lastSeen": f"{output.age(time.time() - seen)} ago" if seen else "never",
        "lastSeen_s": seen,
        "certificate": _certificate(record),
        "certificateEnds_s": record.expires_s if record else 0.0,
        "runtime": info.get("containerRuntimeVersion", ""),
        "version": info.get("kubeletVersion", ""),
        "address": addresses.get("InternalIP", ""),
    }


def _said(conditions: list[Object], kind: str) -> dict[str, str] | None:
    """What the cloud has written of the link into a condition; None when nothing."""
    found = next((item for item in conditions if item.get("type") == kind), None)
    if found is None:
        return None
    names = {"status": "status", "reason": "reason", "message": "message", "since": "lastTransitionTime"}
    return {name: str(found.get(key) or "") for name, key in names.items()}


async def _delivered(api: KubeApi, node: str) -> set[str]:
    """The uids of the objects that the node has acknowledged at least once."""
    found: set[str] = set()
    token = ""
    while True:
        page = await api.list(OBJECTSYNCS, limit=500, continue_token=token)
        names = (obj["metadata"]["name"].rpartition(".") for obj in page.items)
        found |= {uid for owner, _, uid in names if owner == node}
        token = page.continue_token
        if not token:
            return found


def _pod_facts(pod: Object, *, is_delivered: bool) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "phase": pod.get("status", {}).get("phase", "Unknown"),
        "age": output.age(time.time() - _parsed(pod["metadata"].get("creationTimestamp"))),
        "delivered": is_delivered,
        "restarts": sum(int(item.get("restartCount", 0)) for item in statuses),
    }


def _join_address(data: Path | None, given: str | None) -> tuple[str, int, str]:
    """Where nodes join: as given, else as the running cloud says in its ``run.json``; and a warning, or empty."""
    from skerry.app.places import cloud_data, data_root

    if given:
        return *split_address(given, PORT_JOIN), ""
    places = (
        [data, data / "cloud"] if data else [cloud_data(None), data_root() / "up/cloud", data_root() / "demo/cloud"]
    )
    for place in places:
        try:
            host, port = json.loads((place / "run.json").read_bytes())["joins"][0]
        except (OSError, json.JsonError, KeyError, IndexError, ValueError, TypeError):
            continue
        if is_loopback(str(host)):
            hint = "start the cloud with --advertise HOST, or give the address with --address"
            return str(host), int(port), f"{host} is reached from this machine only; {hint}"
        return str(host), int(port), ""
    warning = "no cloud that runs on this machine says where it is reached: put its address in place of CLOUD-ADDRESS, "
    return "CLOUD-ADDRESS", PORT_JOIN, warning + "or give it with --address"


def _parsed(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def _left(expires_s: float) -> str:
    left_s = expires_s - time.time()
    return output.age(left_s) if left_s > 0 else "expired"


def _when(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(at_s))
