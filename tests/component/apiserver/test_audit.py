"""The audit log: what is in it, what is not, and that it stays within its bounds."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.api import gvk
from skerry.apiserver.audit import WAITING_LINES, AuditLog, Trace
from skerry.apiserver.auth.authn import User
from skerry.apiserver.request_info import parse
from skerry.base import json
from skerry.base.aio.clock import SystemClock

PASSWORD = "hunter2-hunter2"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def written(path: Path, count: int) -> None:
    """A line is written after its answer: wait for so many."""
    async with asyncio.timeout(30):
        while len(lines(path)) < count:
            await asyncio.sleep(0.02)


async def test_one_line_per_write_without_secrets(
    serve: Callable[..., Any], client: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path, clock=SystemClock())
    audit.start()
    api = client(await serve(audit=audit))
    place = gvk.SECRETS.path("default")
    secret = {"metadata": {"generateName": "s-"}, "stringData": {"password": PASSWORD}}
    status, made = await api.ask("POST", place, secret, User_Agent="tester/1")
    assert status == 201
    await api.ask("GET", place)
    await api.ask(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"nonResourceAttributes": {}}}
    )
    patch = {"stringData": {"password": PASSWORD + "2"}}
    name = made["metadata"]["name"]
    await api.ask("PATCH", f"{place}/{name}?dryRun=All", patch, kind="application/merge-patch+json")
    await api.ask("PUT", f"{place}/none", {"metadata": {"name": "none"}}, Impersonate_User="jane")
    await api.ask("DELETE", f"{place}/{name}")
    await written(path, 4)
    await audit.aclose()
    found = lines(path)
    assert [(line["verb"], line["status"]) for line in found] == [("create", 201), ("patch", 200), ("update", 403), ("delete", 200)]  # noqa: E501  # fmt: skip
    create, dry, refused, _ = found
    assert (create["user"], create["name"], create["resource"], create["agent"]) == ("skerry-admin", name, "v1/secrets", "tester/1")  # noqa: E501  # fmt: skip
    assert (dry["dryRun"], refused["as"], refused["reason"]) == (True, "jane", "Forbidden")
    assert all(line["took_ms"] >= 0 and line["from"] == "127.0.0.1" for line in found)
    assert PASSWORD not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_admission_notes_is_in_the_line(
    serve: Callable[..., Any], client: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path, clock=SystemClock())
    audit.start()
    api = client(await serve(audit=audit))
    labels = {"pod-security.kubernetes.io/audit": "baseline"}
    assert (await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "n", "labels": labels}}))[0] == 201
    place = "/api/v1/namespaces/n"
    assert (await api.ask("POST", f"{place}/serviceaccounts", {"metadata": {"name": "default"}}))[0] == 201
    pod = {"metadata": {"name": "p"}, "spec": {"hostPID": True, "containers": [{"name": "c", "image": "i"}]}}
    assert (await api.ask("POST", f"{place}/pods", pod))[0] == 201
    await written(path, 3)
    await audit.aclose()
    notes = next(line for line in lines(path) if line["resource"] == "v1/pods" and line["verb"] == "create")[
        "annotations"
    ]
    assert notes["pod-security.kubernetes.io/enforce-policy"] == "privileged:latest"
    assert notes["pod-security.kubernetes.io/audit-violations"] == (
        'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    )


def trace(name: str) -> Trace:
    user = User("jane")
    return Trace(parse("DELETE", gvk.PODS.path("default", name)), user, user)


def note(audit: AuditLog, name: str) -> None:
    audit.note(trace(name), address="", agent="", status=200, reason="", took_s=0.001)


async def test_files_are_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for batch in range(6):
        audit = AuditLog(path, clock=SystemClock(), max_bytes=1000, keep=2)
        for number in range(4):
            note(audit, f"p{batch}-{number}")
        await audit.aclose()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]
    names = [[line["name"] for line in lines(tmp_path / name)] for name in ("audit.log.2", "audit.log.1", "audit.log")]
    assert names[-1][-1] == "p5-3"
    assert names[0] + names[1] + names[2] == sorted(names[0] + names[1] + names[2])
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())


async def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path, clock=SystemClock())
    for number in range(WAITING_LINES + 3):
        note(audit, str(number))
    await audit.aclose()
    found = lines(path)
    assert (len(found), found[-1]) == (WAITING_LINES + 1, {"dropped": 3})


async def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    audit = AuditLog(place / "audit.log", clock=SystemClock())
    audit.start()
    note(audit, "a")
    async with asyncio.timeout(5):
        while audit.waiting:
            await asyncio.sleep(0.01)
    place.mkdir()
    note(audit, "b")
    await audit.aclose()
    assert [line["name"] for line in lines(place / "audit.log")] == ["b"]
