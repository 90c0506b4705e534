"""A real kube-apiserver finds every expression true that our engine finds true, and refuses what ours refuses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.component.apiserver.custom_kit import CRDS, definition
from tests.interop.cluster import Cluster
from tests.unit.cel import costly
from tests.unit.cel.expressions import REFUSED, TRUE

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

GROUP = "/apis/admissionregistration.k8s.io/v1"
OURS_ALONE = ("cel.bind(", "base64.", ".sign()", "'abc'.reverse()", "typed.")
"""What our engine has in addition, or what needs variables of the unit test."""

SELF = "dyn({'a': dyn(1), 'b': dyn({'c': 'x'}), 'list': dyn([3, 1, 2]), 'none': dyn(null)})"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        cluster = Cluster(tmp_path)
        await cluster.start(stack)
        files = cluster._files
        tls = ssl.create_default_context(cafile=str(files.ca_cert))
        tls.load_cert_chain(files.admin_cert, files.admin_key)
        base = f"https://127.0.0.1:{cluster._port}"
        session = await stack.enter_async_context(aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)))
        yield session


def bound(source: str) -> str:
    """The expression with the unit test's variables, bound by loops over one value each."""
    return f"[{SELF}].all(self, [7].all(n, ['a,b,c'].all(s, [['ab', 'ac']].all(words, {source}))))"


def policy(name: str, *sources: str) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    validations = [{"expression": source} for source in sources]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": validations},
    }


async def test_the_judge_agrees(session: Any) -> None:
    theirs = [source for source in TRUE if not any(word in source for word in OURS_ALONE)]
    refused: list[str] = []
    for index, source in enumerate(theirs):
        async with session.post(
            f"{GROUP}/validatingadmissionpolicies", json=policy(f"p{index}", bound(source))
        ) as answer:
            if answer.status != 201:
                refused.append(f"{source}\n{(await answer.json())['message'][-700:]}")
                continue
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": f"p{index}"},
            "spec": {"policyName": f"p{index}", "validationActions": ["Warn"]},
        }
        async with session.post(f"{GROUP}/validatingadmissionpolicybindings", json=binding) as answer:
            assert answer.status == 201
    sentinel = policy("sentinel", "false")
    async with session.post(f"{GROUP}/validatingadmissionpolicies", json=sentinel) as answer:
        assert answer.status == 201
    binding["metadata"], binding["spec"]["policyName"] = {"name": "sentinel"}, "sentinel"
    async with session.post(f"{GROUP}/validatingadmissionpolicybindings", json=binding) as answer:
        assert answer.status == 201
    warnings: list[str] = []
    async with asyncio.timeout(60):
        while not any("'sentinel'" in text for text in warnings):
            await asyncio.sleep(0.5)
            body = {"metadata": {"generateName": "c-"}}
            async with session.post("/api/v1/namespaces/default/configmaps?dryRun=All", json=body) as answer:
                warnings = answer.headers.getall("Warning", [])
    wrong = [text for text in warnings if "'sentinel'" not in text]
    assert not refused, "\n\n".join(refused)
    assert not wrong, "\n\n".join(wrong)


async def test_the_judge_refuses_too(session: Any) -> None:
    accepted = []
    for index, (source, _) in enumerate(REFUSED):
        if any(word in source for word in OURS_ALONE):
            continue
        async with session.post(
            f"{GROUP}/validatingadmissionpolicies", json=policy(f"r{index}", bound(source))
        ) as answer:
            if answer.status == 201:
                accepted.append(source)
    assert not accepted


def crd(rule: str) -> dict[str, Any]:
    spec = {"type": "object", "properties": costly.PROPERTIES, "x-kubernetes-validations": [{"rule": rule}]}
    return definition({"type": "object", "properties": {"spec": spec}})


async def test_the_judge_takes_rules_of_the_same_cost(session: Any) -> None:
    found: dict[bool, list[str]] = {True: [], False: []}
    for rule in (*costly.TAKEN, *costly.REFUSED):
        async with session.post(f"{CRDS}?dryRun=All", json=crd(rule)) as answer:
            message = "" if answer.status == 201 else (await answer.json())["message"]
            assert not message or "estimated rule cost exceeds budget" in message, f"{rule}\n{message}"
            found[answer.status == 201].append(rule)
    assert found == {True: list(costly.TAKEN), False: list(costly.REFUSED)}
