"""An embedded cloud with two of our agents, each on a containerd of its own, for upstream's tests with real pods.

    python -m tests.interop.two_agents --work /tmp/two --program agnhost=/path/agnhost

Prints the kubeconfig and runs until SIGTERM. Images are made here: every tag of ``IMAGES`` holds busybox and the
programs of ``--program``; the program of an image's own name, if any, is its entry point.

It wants a network namespace that ``isolated`` has set up: the cloud and the nodes have addresses of 10.64.0.0/10 there,
which pods reach through their bridges; pods of both nodes reach each other because one kernel routes between them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.interop.goedge import GoProcess
from tests.interop.judges import Bench
from tests.parts import CONTAINERD_PACKAGES, Containerd, busybox_program, image_layer, tar_of, unpack

REGISTRY = "registry.k8s.io/e2e-test-images"
IMAGES = (
    f"{REGISTRY}/agnhost:2.63.0",
    f"{REGISTRY}/agnhost:2.55",
    f"{REGISTRY}/busybox:1.37.0-1",
    f"{REGISTRY}/nautilus:1.8",
    f"{REGISTRY}/nginx:1.15-4",
    f"{REGISTRY}/nginx:1.27-0",
    "registry.k8s.io/pause:3.10.2",
)
CLOUD_ADDRESS = "10.64.0.1"
_INSIDE = "SKERRY_CONFORMANCE_INSIDE"
_SETUP = "ip link set lo up && ip route add local 10.64.0.0/10 dev lo && echo 1 > /proc/sys/net/ipv4/ip_forward"
CURL = b"""#!/bin/sh
for word; do url=$word; done
exec wget -q -O - "$url"
"""
"""What tests say with curl, in busybox's words."""
EXTRAS = {
    "bin/curl": CURL,
    "localhost.crt": b"a file that tests look for\n",
    "www/data.json": b'{"image": "nautilus.jpg"}\n',
}
COMMANDS = {
    "nautilus": ["/bin/httpd", "-f", "-p", "80", "-h", "/www"],
    "nginx": ["/bin/httpd", "-f", "-p", "80", "-h", "/www"],
    "pause": ["/bin/sleep", "infinity"],
}
"""What the images run, by name, as far as it is no shell."""

AGENT = [sys.executable, "-m", "skerry.cli.main"]


def isolated(module: str) -> None:
    """Run this program again in a network namespace of its own, unless it is there already."""
    if os.environ.get(_INSIDE) is None:
        unpack(*CONTAINERD_PACKAGES, "iptables")  # inside there is no way to them
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", in_own_network([sys.executable, "-m", module, *sys.argv[1:]]))


def in_own_network(command: Sequence[str]) -> list[str]:
    """The command that runs ``command`` in a network namespace of its own."""
    return ["unshare", "-n", "sh", "-c", f'{_SETUP} && exec "$@"', "sh", *command]


def archive(tag: str, programs: Mapping[str, bytes]) -> bytes:
    """A docker archive with busybox and further programs."""
    name = tag.rpartition("/")[2].partition(":")[0]
    layers = [image_layer(busybox_program()), tar_of({**programs, **EXTRAS}, mode=0o755)]
    digests = [sha256(layer).hexdigest() for layer in layers]
    settings: dict[str, Any] = {"Env": ["PATH=/:/bin:/sbin:/usr/bin", f"IMAGE={tag}"], "WorkingDir": "/"}
    if name in programs:
        settings |= {"Entrypoint": [f"/{name}"], "Cmd": ["pause"]}
    else:
        settings["Cmd"] = COMMANDS.get(name, ["/bin/sh"])
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in layers],
    }).encode()  # fmt: skip
    file = f"{sha256(config).hexdigest()}.json"
    files = {f"{index}.tar": layer for index, layer in enumerate(layers)}
    manifest = json.dumps([{"Config": file, "RepoTags": [tag], "Layers": list(files)}]).encode()
    return tar_of({file: config, **files, "manifest.json": manifest})


async def told(*arguments: str) -> Any:
    """Run one command of the product; its JSON."""
    process = await asyncio.create_subprocess_exec(*AGENT, *arguments, "-o", "json", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"skerry {' '.join(arguments)} failed")
    return json.loads(out)


async def add_node(stack: AsyncExitStack, bench: Bench, index: int, work: Path, archives: Sequence[bytes]) -> None:
    """One more agent on one more containerd."""
    name, engine = f"edge-{index}", Containerd(subnet=f"10.232.{index}", has_iptables=True)
    await asyncio.to_thread(engine.start)
    stack.callback(engine.close)
    for data in archives:
        await asyncio.to_thread(engine.ctr, "images", "import", "-", stdin=data)
    token = await told("token", "create", "--node", name, "--data", str(bench.data))
    place = str(work / name)
    await told(
        "join", token["join"]["address"], "--token", token["token"], "--node", name, "--runtime", "cri",
        "--cri-socket", str(engine.socket), "--data", place, "--no-service",
    )  # fmt: skip
    command = [*AGENT, "edge", "run", "--data", place, "-o", "json", "--log-format", "text"]
    environment = {"SKERRY_EDGE_NODE_IP": f"10.64.0.{10 + index}"}
    await bench.run(stack, GoProcess(name, command, directory=work / "logs", environment=environment))


async def add_nodes(
    stack: AsyncExitStack, bench: Bench, work: Path, *, count: int, programs: Mapping[str, Path]
) -> None:
    """Agents with every image that the tests need."""
    contents = {name: file.read_bytes() for name, file in programs.items()}
    archives = [archive(tag, contents) for tag in IMAGES]
    for index in range(count):
        await add_node(stack, bench, index + 1, work, archives)


async def serve(work: Path, nodes: int, programs: Mapping[str, Path]) -> None:
    """Start everything and wait for the signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        bench = Bench(work, address=CLOUD_ADDRESS)
        await bench.start(stack)
        await add_nodes(stack, bench, work, count=nodes, programs=programs)
        print(bench.kubeconfig, flush=True)  # noqa: T201
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory for data and logs")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--program", action="append", default=[], help="NAME=FILE, put into every image as /NAME")
    options = parser.parse_args()
    isolated("tests.interop.two_agents")
    pairs = (text.partition("=")[::2] for text in options.program)
    options.work.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options.work, options.nodes, {name: Path(file) for name, file in pairs}))


if __name__ == "__main__":
    main()
