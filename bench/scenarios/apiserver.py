"""The embedded API server beside kube-apiserver and etcd, with the same client over TLS in a process of its own.

Ours runs as the cloud runs it: uvloop, SQLite with ``synchronous=FULL``. Theirs runs when ``SKERRY_KUBE_APISERVER`` and
``SKERRY_ETCD`` name the programs (with fsync, as shipped). Numbers, per server:

``creates_per_s``, ``patches_per_s``: pods of about 3.7 kB, 16 connections; ``list_ms``, ``table_ms``: 10,000 pods,
best of 3, in full and as Table; ``rss_mb``: after that; ``ready_…_s``: from exec to the first 200 of ``/readyz``, on an
empty and on the full database; ``fanout``: watchers × events a second, latency from the write to the arrival at
watchers in processes of their own. Then ``all_in_one``: the memory of the processes of an idle ``skerry up``, on
this and on the system's interpreter.

``python bench/run.py apiserver``; smaller: ``python bench/scenarios/apiserver.py --pods 1000 --watchers 100``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from skerry.app import pki
from skerry.base import certificates
from skerry.base.net.listening import free_port
from skerry.testing.interpreters import system_python, told

POD_BYTES = 3700
CONNECTIONS = 16
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
RATES = (10, 20, 40, 80, 160)
CROWDS = 2
IDLE_S = 15.0
ROUND_S = 8.0


@dataclass
class Server:
    """Processes that together are an API server."""

    name: str
    commands: list[list[str]]
    port: int
    files: pki.ApiFiles
    started: list[subprocess.Popen[bytes]]

    def start(self) -> float:
        """Run it; returns seconds until it is ready."""
        begun = time.monotonic()
        for command in self.commands:
            log = (self.files.directory / f"{self.name}.log").open("ab")
            self.started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        context = client_tls(self.files)
        while time.monotonic() - begun < 90:
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
                    with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                        secure.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        if b" 200 " in secure.recv(4096).split(b"\r\n")[0]:
                            return round(time.monotonic() - begun, 3)
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} did not become ready; see {self.files.directory / f'{self.name}.log'}")

    def stop(self) -> None:
        """End it and wait."""
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        self.started.clear()

    def rss_mb(self) -> float:
        """Resident memory of all its processes."""
        pages = sum(int(Path(f"/proc/{one.pid}/statm").read_text().split()[1]) for one in self.started)
        return round(pages * 4096 / 1e6, 1)

    def cpu_s(self) -> float:
        """Processor time of all its processes."""
        fields = [Path(f"/proc/{one.pid}/stat").read_text().rsplit(")", 1)[1].split() for one in self.started]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def client_tls(files: pki.ApiFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca_cert))
    context.load_cert_chain(files.admin_cert, files.admin_key)
    return context


def prepare(folder: Path) -> pki.ApiFiles:
    from skerry.base import x509  # not at the top: the server that is measured does not load it

    return asyncio.run(pki.prepare(folder / "pki", hosts=["127.0.0.1"], certs=x509.LocalCertifier()))


def ours(folder: Path) -> Server:
    files = prepare(folder)
    port = free_port()
    command = [sys.executable, __file__, "--serve", str(port), "--folder", str(folder)]
    return Server("skerry", [command], port, files, [])


def theirs(folder: Path) -> Server | None:
    apiserver, etcd = os.environ.get("SKERRY_KUBE_APISERVER"), os.environ.get("SKERRY_ETCD")
    if not apiserver or not etcd:
        return None
    from skerry.base import x509

    files = prepare(folder)
    certificates.save(x509.new_ca("tokens"), folder / "sa.crt", files.token_key)
    port, client, peer = free_port(), f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    store = [
        etcd, "--data-dir", str(folder / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip
    issuer = "https://kubernetes.default.svc.cluster.local"
    api = [
        apiserver, "--etcd-servers", client, "--bind-address", "127.0.0.1", "--secure-port", str(port),
        "--cert-dir", str(folder / "certs"), "--tls-cert-file", str(files.cert),
        "--tls-private-key-file", str(files.key), "--client-ca-file", str(files.ca_cert),
        "--service-cluster-ip-range", "10.0.0.0/24", "--service-account-issuer", issuer,
        "--service-account-key-file", str(files.token_key), "--authorization-mode", "RBAC",
        "--service-account-signing-key-file", str(files.token_key), "--advertise-address", "127.0.0.1",
        "--endpoint-reconciler-type", "none", "--max-requests-inflight", "0", "--enable-priority-and-fairness=false",
    ]  # fmt: skip
    return Server("kube-apiserver", [store, api], port, files, [])


def pod(number: int) -> bytes:
    """A pod whose stored form has about ``POD_BYTES``."""
    env = [{"name": f"SETTING_{at}", "value": "v" * 20} for at in range(5)]
    resources = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    container = {
        "name": "app", "image": "registry.example/team/app:1.2.3", "env": env, "resources": resources,
        "readinessProbe": probe, "livenessProbe": probe, "ports": [{"containerPort": 8080, "name": "http"}],
    }  # fmt: skip
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number:05}", "labels": {"app": "app", "zone": f"z{number % 10}"}},
        "spec": {"containers": [container], "nodeSelector": {"role": "edge"}},
    }
    return json.dumps(body).encode()


class Wire(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time; as little client as possible."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, int]] | None = None
        self._head = 0
        self._length: int | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._head:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length:")
            self._length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else None
        if self._length is not None:
            is_done = len(self._buffer) >= self._head + self._length
        else:
            is_done = self._buffer.endswith(b"0\r\n\r\n")
        if is_done and self._waiting is not None:
            status, size = int(self._buffer[9:12]), len(self._buffer) - self._head
            self._buffer.clear()
            self._head = 0
            self._waiting.set_result((status, size))

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json",
                  accept: str = "application/json") -> tuple[int, int]:  # fmt: skip
        """Status and size of the answer."""
        self._waiting = asyncio.get_running_loop().create_future()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nUser-Agent: bench/1\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"\r\n" + body)
        return await self._waiting


async def connect(port: int, tls: ssl.SSLContext) -> Wire:
    _, wire = await asyncio.get_running_loop().create_connection(
        Wire, "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1"
    )
    return wire


async def rate(wires: list[Wire], requests: Iterator[tuple[str, str, bytes, str]], expect: int) -> tuple[int, float]:
    """How many requests were answered, and in how many seconds."""
    done = 0

    async def work(wire: Wire) -> None:
        nonlocal done
        for method, path, body, kind in requests:
            status, _ = await wire.ask(method, path, body, kind)
            if status != expect:
                raise RuntimeError(f"{method} {path} answered {status}")
            done += 1

    begun = time.monotonic()
    await asyncio.gather(*(work(wire) for wire in wires))
    return done, time.monotonic() - begun


async def load(server: Server, pods: int, watchers: int) -> dict[str, Any]:
    """Everything that a running server is measured by."""
    tls = client_tls(server.files)
    wires = [await connect(server.port, tls) for _ in range(CONNECTIONS)]
    account = b'{"metadata":{"name":"default"}}'
    await wires[0].ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    found: dict[str, Any] = {}
    cpu_s = server.cpu_s()
    count, took_s = await rate(wires, (("POST", PODS, pod(n), "application/json") for n in range(pods)), 201)
    found["creates_per_s"] = round(count / took_s)
    found["create_cpu_us"] = round((server.cpu_s() - cpu_s) * 1e6 / count)
    cpu_s = server.cpu_s()
    patch = '{"status":{"phase":"Running","podIP":"10.0.0.%d"}}'
    patches = (
        ("PATCH", f"{PODS}/pod-{n:05}/status", (patch % (n % 250)).encode(), "application/strategic-merge-patch+json")
        for n in range(min(pods, 3000))
    )
    count, took_s = await rate(wires, patches, 200)
    found["patches_per_s"] = round(count / took_s)
    found["patch_cpu_us"] = round((server.cpu_s() - cpu_s) * 1e6 / count)
    for name, accept in (("list", "application/json"), ("table", TABLE)):
        best, cpu_s = 1e9, server.cpu_s()
        for _ in range(3):
            begun = time.monotonic()
            status, size = await wires[0].ask("GET", PODS, accept=accept)
            assert status == 200
            best = min(best, time.monotonic() - begun)
        found[f"{name}_cpu_ms"] = round((server.cpu_s() - cpu_s) * 1e3 / 3)
        found[f"{name}_ms"], found[f"{name}_mb"] = round(best * 1000, 1), round(size / 1e6, 1)
    found["pod_bytes"] = round(found["list_mb"] * 1e6 / pods)
    found["rss_mb"] = server.rss_mb()
    found["fanout"] = await fanout(server, wires, watchers)
    for wire in wires:
        wire.transport.close()
    return found


async def fanout(server: Server, wires: list[Wire], watchers: int) -> dict[str, Any]:
    """Watchers of one resource at rising rates, until events are late. They live in processes of their own."""
    before_mb = server.rss_mb()
    await wires[0].ask("POST", MAPS, b'{"metadata":{"name":"beat"},"data":{"sent":"%018.6f"}}' % time.time())
    crowds = [await Crowd.start(server, watchers // CROWDS) for _ in range(CROWDS)]
    watchers = watchers // CROWDS * CROWDS
    for each in crowds:
        await each.take(watchers)  # the state that a watch begins with
    each_kb = round((server.rss_mb() - before_mb) * 1e3 / watchers)
    found: dict[str, Any] = {"watchers": watchers, "idle_kb_each": each_kb}
    try:
        for per_s in RATES:
            found[f"at_{per_s}_per_s"] = late = await one_rate(server, wires[0], crowds, per_s, watchers)
            if late["p99_ms"] > 1000 or late["really_per_s"] < per_s * 0.7:
                break
    finally:
        for crowd in crowds:
            await crowd.end()
    return found


async def one_rate(server: Server, wire: Wire, crowds: list[Crowd], per_s: int, watchers: int) -> dict[str, Any]:
    """How old events are on arrival at this rate."""
    cpu_s, crowd_s = server.cpu_s(), sum(crowd.cpu_s() for crowd in crowds)
    begun = time.monotonic()
    events = int(per_s * ROUND_S)
    for number in range(events):
        await asyncio.sleep(max(0.0, begun + number / per_s - time.monotonic()))
        body = b'{"data":{"sent":"%018.6f"}}' % time.time()
        await wire.ask("PATCH", f"{MAPS}/beat", body, "application/merge-patch+json")
    sent_s = time.monotonic() - begun
    used_s, crowd_s = server.cpu_s() - cpu_s, sum(crowd.cpu_s() for crowd in crowds) - crowd_s
    ages: list[float] = []
    for crowd in crowds:
        ages += await crowd.take(events * watchers // len(crowds))
    return {
        "really_per_s": round(events / sent_s, 1),
        "delivered": round(len(ages) / (events * watchers), 4),
        **quantiles_ms(ages),
        "server_cpu": round(used_s / sent_s, 2),
        "watchers_cpu": round(crowd_s / sent_s, 2),
    }


class Crowd:
    """A process that holds watches and notes how old events are on arrival: bare sockets and one selector."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, server: Server, count: int) -> Crowd:
        """Begin ``count`` watches; returns when all of them are answered."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--watch", str(server.port), "--watchers", str(count),
            "--folder", str(server.files.directory.parent),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the watchers could not begin")
        return cls(process)

    async def take(self, expected: int) -> list[float]:
        """The ages since the last call, once ``expected`` of them are there or none has come for a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % expected)
        size = int(await self._process.stdout.readline())
        return list(array("d", await self._process.stdout.readexactly(size)))

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def end(self) -> None:
        """Close the watches."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def crowd(port: int, folder: Path, count: int) -> None:
    """The process of a ``Crowd``: commands on stdin, answers on stdout."""
    tls = client_tls(prepare(folder))
    request = (
        f"GET {MAPS}?watch=1&fieldSelector=metadata.name%3Dbeat HTTP/1.1\r\nHost: x\r\nUser-Agent: bench/1\r\n\r\n"
    )
    chooser = selectors.DefaultSelector()
    rests: dict[ssl.SSLSocket, bytes] = {}
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = tls.wrap_socket(plain, server_hostname="127.0.0.1")
        secure.sendall(request.encode())
        if b" 200 " not in secure.recv(4096).split(b"\r\n")[0]:
            raise RuntimeError("the watch was refused")
        secure.setblocking(False)
        chooser.register(secure, selectors.EVENT_READ)
        rests[secure] = b""
    print("ready", flush=True)
    chooser.register(sys.stdin, selectors.EVENT_READ)
    ages, expected, quiet_s = array("d"), 0, 0.0
    buffer = bytearray(64 * 1024)
    view = memoryview(buffer)
    while True:
        ready = chooser.select(0.2 if expected else None)
        for key, _ in ready:
            secure = key.fileobj  # type: ignore[assignment]
            if key.fileobj is sys.stdin:
                line = sys.stdin.readline()
                if not line:
                    return
                expected = int(line)
                continue
            with contextlib.suppress(ssl.SSLWantReadError):
                while size := secure.recv_into(buffer):
                    now = time.time()
                    data = rests[secure] + bytes(view[:size])
                    at = data.find(b'"sent":"')
                    while 0 <= at <= len(data) - 26:
                        ages.append(now - float(data[at + 8 : at + 26]))
                        at = data.find(b'"sent":"', at + 26)
                    rests[secure] = data[-7:] if at < 0 else data[at:]
        quiet_s = 0.0 if ready else quiet_s + 0.2
        if expected and (len(ages) >= expected or quiet_s > 1.0):
            sys.stdout.buffer.write(b"%d\n" % (len(ages) * 8) + ages.tobytes())
            sys.stdout.buffer.flush()
            ages, expected, quiet_s = array("d"), 0, 0.0


def quantiles_ms(ages: list[float]) -> dict[str, float]:
    ordered = sorted(ages) or [0.0]
    return {
        name: round(1000 * ordered[int(part * (len(ordered) - 1))], 1)
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99))
    }


def measure(server: Server, pods: int, watchers: int) -> dict[str, Any]:
    found: dict[str, Any] = {"ready_empty_s": server.start()}
    found["ready_empty_cpu_s"] = server.cpu_s()
    try:
        time.sleep(2)
        found["rss_empty_mb"] = server.rss_mb()
        found |= uvloop.run(load(server, pods, watchers))
        server.stop()
        found["ready_full_s"] = server.start()
        found["ready_full_cpu_s"] = server.cpu_s()
    finally:
        server.stop()
    return found


def run(*, pods: int = 10_000, watchers: int = 1_000) -> dict[str, Any]:
    found: dict[str, Any] = {"pods": pods}
    with tempfile.TemporaryDirectory() as folder:
        found["skerry"] = measure(ours(Path(folder)), pods, watchers)
    with tempfile.TemporaryDirectory() as folder:
        other = theirs(Path(folder))
        if other is not None:
            found["kube_apiserver_and_etcd"] = measure(other, pods, watchers)
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"this": sys.executable} | system_python(Path(folder) / "python")
        found["all_in_one"] = {
            told(python): all_in_one(Path(folder) / name, python) for name, python in pythons.items()
        }
    found["load_1m_after"] = os.getloadavg()[0]
    return found


def all_in_one(folder: Path, python: str) -> dict[str, Any]:
    """Memory of an idle ``skerry up``, in 10⁶ bytes: what is shared between its processes counts once in ``pss_mb``."""
    command = [python, "-m", "skerry.cli.main", "up", "--data", str(folder / "up"), "--ports", "any"]
    with subprocess.Popen(
        [*command, "--runtime", "process", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        time.sleep(IDLE_S)
        found: dict[str, Any] = {"took_s": facts["took_s"]}
        for kind in ("Rss", "Pss"):
            each = {name: memory_mb(pid, kind) for name, pid in facts["pids"].items()}
            found[f"{kind.lower()}_mb"] = each | {"all": round(sum(each.values()), 1)}
        process.send_signal(signal.SIGTERM)
    return found


def memory_mb(pid: int, kind: str) -> float:
    """``Rss`` or ``Pss`` of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 / 1e6, 1)


async def serve(port: int, folder: Path) -> None:
    """Our server, until SIGTERM."""
    from skerry.apiserver.core import ApiCore
    from skerry.apiserver.http import ApiServer
    from skerry.base.certifier import ChildCertifier
    from skerry.base.net.http_server import tune_tls_buffers

    tune_tls_buffers()
    certs = ChildCertifier()
    await certs.start()
    core = ApiCore(database=folder / "cluster.db", token_key=pki.ApiFiles(folder / "pki").token_key, certs=certs)
    await core.start()
    files = await pki.prepare(folder / "pki", hosts=["127.0.0.1"], certs=certs)
    server = ApiServer(core)
    await server.listen("127.0.0.1", port, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.aclose()
    await core.aclose()
    await certs.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--serve", type=int, default=0)
    parser.add_argument("--watch", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.serve:
        uvloop.run(serve(given.serve, given.folder))
    elif given.watch:
        crowd(given.watch, given.folder, given.watchers)
    else:
        print(json.dumps(run(pods=given.pods, watchers=given.watchers), indent=1))
