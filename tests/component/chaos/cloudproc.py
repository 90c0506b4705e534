"""The cloud under test as a process: ``python -m tests.component.chaos.cloudproc DIRECTORY NODE…``.

The embedded API server, hub, sync and join as the product has them, without controllers. Says on stdout, as one line of
JSON, where it serves. At its first start it writes a certificate per node into ``DIRECTORY/nodes``.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.component.chaos.agentproc import tell_tasks

from skerry.api.gvk import NODES, SERVICEACCOUNTS
from skerry.api.status import AlreadyExists
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.apiserver.local import LocalKubeApi
from skerry.app import pki
from skerry.base import certificates, json, x509
from skerry.base.obs.log import setup
from skerry.base.x509 import LocalCertifier
from skerry.cloud.hub.listener import HubLimits
from skerry.testing.hubkit import CloudKit, cloud


async def main(directory: Path, nodes: Sequence[str]) -> None:
    """Serve until killed."""
    files = await pki.prepare(directory / "pki", hosts=["127.0.0.1"], certs=LocalCertifier())
    core = ApiCore(database=directory / "cluster.db", token_key=files.token_key)
    async with AsyncExitStack() as stack:
        await core.start()
        stack.push_async_callback(core.aclose)
        api = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
        with suppress(AlreadyExists):
            await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        for node in nodes:
            with suppress(AlreadyExists):
                await api.create(NODES, {"metadata": {"name": node}})
        server = ApiServer(core)
        stack.push_async_callback(server.aclose)
        port = await server.listen(
            "127.0.0.1", 0, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert
        )
        kubeconfig = directory / "kubeconfig"
        pki.write_kubeconfig(kubeconfig, files, server=f"https://127.0.0.1:{port}")
        limits = HubLimits(retransmit_first_s=0.5, silence_limit_s=5.0, calm_limit_s=5.0, holdings_within_s=2.0)
        kit = await stack.enter_async_context(cloud(api, directory / "kit", hub_limits=limits))
        write_certificates(directory, kit, nodes)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell_tasks)
        gc.collect()
        gc.freeze()
        sys.stdout.buffer.write(json.dumps({"hub": kit.hub_url, "kubeconfig": str(kubeconfig)}) + b"\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def write_certificates(directory: Path, kit: CloudKit, nodes: Sequence[str]) -> None:
    """For the nodes, and for a proxy that stands for the hub."""
    folder = directory / "nodes"
    if folder.exists():
        return
    scratch = directory / "nodes.new"
    scratch.mkdir()
    (scratch / "ca.crt").write_bytes(kit.ca_pem)
    certificates.save(x509.issue_server(kit.authority.ca, ["127.0.0.1"]), scratch / "proxy.crt", scratch / "proxy.key")
    for node in nodes:
        (scratch / node).mkdir()
        (scratch / node / "ca.crt").write_bytes(kit.ca_pem)
        certificates.save(kit.node_credential(node), scratch / node / "node.crt", scratch / node / "node.key")
    scratch.rename(folder)


if __name__ == "__main__":
    setup(form="text")
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
