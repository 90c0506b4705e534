"""An embedded cloud with two of our agents, each on a containerd of its own, for upstream's tests with real pods.

    python -m tests.interop.two_agents --work /tmp/two --program agnhost=/path/agnhost

Prints the kubeconfig and runs until SIGTERM. Images are made here: every tag of ``--image`` holds busybox and the
programs of ``--program``; the first program, if any, is the entry point of images whose name contains its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.interop.goedge import GoProcess
from tests.interop.judges import Bench
from tests.parts import Containerd, busybox_program, image_layer, tar_of

REGISTRY = "registry.k8s.io/e2e-test-images"
IMAGES = (
    f"{REGISTRY}/agnhost:2.63.0",
    f"{REGISTRY}/agnhost:2.55",
    f"{REGISTRY}/busybox:1.37.0-1",
    f"{REGISTRY}/nginx:1.15-4",
    f"{REGISTRY}/nginx:1.27-0",
    "registry.k8s.io/pause:3.10.2",
)
CURL = b"""#!/bin/sh
for word; do url=$word; done
exec wget -q -T 30 -O - "$url"
"""
"""What tests say with curl, in busybox's words."""

AGENT = [sys.executable, "-m", "skerry.cli.main"]


def archive(tag: str, programs: dict[str, bytes]) -> bytes:
    """A docker archive with busybox and further programs."""
    extras = {"bin/curl": CURL, "localhost.crt": b"a file that tests look for\n"}
    layers = [image_layer(busybox_program()), tar_of({**programs, **extras}, mode=0o755)]
    digests = [sha256(layer).hexdigest() for layer in layers]
    entry = next((name for name in programs if f"/{name}:" in tag), "")
    settings: dict[str, Any] = {"Env": ["PATH=/:/bin:/sbin:/usr/bin"], "WorkingDir": "/"}
    if entry:
        settings |= {"Entrypoint": [f"/{entry}"], "Cmd": ["pause"]}
    else:
        settings["Cmd"] = ["/bin/sleep", "infinity"] if "/pause:" in tag else ["/bin/sh"]
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in layers],
    }).encode()  # fmt: skip
    name = f"{sha256(config).hexdigest()}.json"
    files = {f"{index}.tar": layer for index, layer in enumerate(layers)}
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": list(files)}]).encode()
    return tar_of({name: config, **files, "manifest.json": manifest})


async def told(*arguments: str) -> Any:
    """Run one command of the product; its JSON."""
    process = await asyncio.create_subprocess_exec(*AGENT, *arguments, "-o", "json", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"skerry {' '.join(arguments)} failed")
    return json.loads(out)


async def add_node(stack: AsyncExitStack, bench: Bench, index: int, work: Path, archives: list[bytes]) -> None:
    """One more agent on one more containerd."""
    name, engine = f"edge-{index}", Containerd(subnet=f"10.232.{index}")
    engine.start()
    stack.callback(engine.close)
    for data in archives:
        engine.ctr("images", "import", "-", stdin=data)
    token = await told("token", "create", "--node", name, "--data", str(bench.data))
    place = str(work / name)
    await told(
        "join", token["join"]["address"], "--token", token["token"], "--node", name, "--runtime", "cri",
        "--cri-socket", str(engine.socket), "--data", place, "--no-service",
    )  # fmt: skip
    command = [*AGENT, "edge", "run", "--data", place, "-o", "json", "--log-format", "text"]
    await bench.run(stack, GoProcess(name, command, directory=work / "logs"))


async def serve(work: Path, nodes: int, programs: dict[str, bytes]) -> None:
    """Start everything and wait for the signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        bench = Bench(work)
        await bench.start(stack)
        archives = [archive(tag, programs) for tag in IMAGES]
        for index in range(nodes):
            await add_node(stack, bench, index + 1, work, archives)
        print(bench.kubeconfig, flush=True)  # noqa: T201
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory for data and logs")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--program", action="append", default=[], help="NAME=FILE, put into every image as /NAME")
    options = parser.parse_args()
    pairs = (text.partition("=")[::2] for text in options.program)
    options.work.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options.work, options.nodes, {name: Path(file).read_bytes() for name, file in pairs}))


if __name__ == "__main__":
    main()
