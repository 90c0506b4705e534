"""Rules of masquerading that outlive their sandbox.

The bridge plugin takes a sandbox's interface away first, and its chain in the table ``nat`` afterwards; asked again, it
finds no interface, and so no address, and leaves the chain. Whoever kills it in between, as containerd does when its
caller is killed, leaves a chain for good. The rules name network and sandbox. A sandbox that has no address in that
network, that no note tells of and that the engine does not know, has none of them, whosever it was.

Source: containernetworking/plugins plugins/main/bridge/bridge.go (cmdDel), pkg/ip/ipmasq_iptables_linux.go,
pkg/utils/utils.go (names and comments); iptables-save(8).
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.runtime.cri.addresses import lease_directory, leases_of
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.lostnets import NOTES, LostNetworks, Network, networks_of
from skerry.runtime.cri.lostshims import all_of
from skerry.runtime.ports import EngineError

log = get_log(__name__)

LOOK_S = 60.0
_PROGRAMS = ("iptables", "ip6tables")
_PROGRAM_S = 30.0
_NAME = re.compile(r"CNI-[0-9a-f]{24}")
_COMMENT = re.compile(r'name: "([^"]+)" id: "([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Chain:
    """One sandbox's chain in one network.

    Args:
        jumps: the rules of other chains that lead there, each as it is added.
    """

    name: str
    network: str
    sandbox: str
    jumps: tuple[tuple[str, ...], ...] = field(default=())


def chains_in(saved: str) -> list[Chain]:
    """Chains of sandboxes of a saved table. One with a rule that names no sandbox, or two, is somebody else's. Pure."""
    owners: dict[str, set[tuple[str, str]]] = {}
    jumps: dict[str, list[tuple[str, ...]]] = {}
    for line in saved.splitlines():
        if not line.startswith("-A "):
            continue
        words = shlex.split(line)
        comment = words[words.index("--comment") + 1] if "--comment" in words[:-1] else ""
        told = _COMMENT.fullmatch(comment)
        owner = (told[1], told[2]) if told else ("", "")
        target = words[words.index("-j") + 1] if "-j" in words[:-1] else ""
        if _NAME.fullmatch(words[1]):
            owners.setdefault(words[1], set()).add(owner)
        if _NAME.fullmatch(target):
            owners.setdefault(target, set()).add(owner)
            jumps.setdefault(target, []).append(tuple(words))
    return [
        Chain(name, *next(iter(named)), tuple(jumps.get(name, ())))
        for name, named in owners.items()
        if len(named) == 1 and ("", "") not in named
    ]


def removal(chain: Chain) -> list[list[str]]:
    """What iptables is told to remove a chain and what leads there. Pure."""
    return [*(["-D", *jump[1:]] for jump in chain.jumps), ["-F", chain.name], ["-X", chain.name]]


def masquerading(networks: Iterable[Network]) -> list[Network]:
    """Those whose plugins make such chains, and whose addresses host-local gives. Pure."""
    found = []
    for network in networks:
        plugins = network.configuration.get("plugins") or [network.configuration]
        if any(plugin.get("ipMasq") for plugin in plugins) and lease_directory(network) is not None:
            found.append(network)
    return found


class LostRules:
    """Removes lost chains of the networks of one containerd; finds none on other engines.

    Args:
        client: of the engine; stays its owner's.
        notes: where the plugins' library keeps its notes.
    """

    def __init__(self, client: CriClient, *, clock: Clock, notes: Path = NOTES) -> None:
        self._client = client
        self._clock = clock
        self._networks = LostNetworks(client, notes=notes)
        self._seen: set[tuple[str, str]] = set()
        self._clean: frozenset[str] | None = None

    async def run(self) -> None:
        """Look each ``LOOK_S``; never ends."""
        while True:
            try:
                await self.end()
            except (EngineError, OSError, TimeoutError) as exc:
                log.debug("rules.not_seen", why=str(exc))
            await self._clock.sleep(LOOK_S)

    async def end(self) -> int:
        """Remove those that are lost at this look and were at the last; how many. Nothing new: no look at all.

        Raises:
            EngineError: the engine does not tell what it knows.
            OSError, TimeoutError: iptables cannot be run.
        """
        networks = masquerading(networks_of((await self._client.call("Status", {"verbose": True})).get("info", {}))[1])
        held = frozenset({lease.sandbox for lease in leases_of(networks)} | self._networks.sandboxes())
        if not networks or held == self._clean:
            return 0
        names = {str(network.configuration["name"]) for network in networks}
        found = {
            (program, chain.name): chain
            for program in _PROGRAMS
            for chain in chains_in(await _run(f"{program}-save", "-t", "nat"))
            if chain.network in names and chain.sandbox not in held
        }
        before, self._seen = self._seen, set(found)
        self._clean = None if found else held
        lost = before & found.keys()
        known = (await all_of(self._client)).known() if lost else set()
        removed = 0
        for program, name in sorted(lost):
            chain = found[program, name]
            if chain.sandbox in known:
                continue
            for words in removal(chain):
                await _run(program, "-w", "-t", "nat", *words)
            removed += 1
            log.warning(
                "engine.lost_rules_removed", sandbox=chain.sandbox, chain=name,
                hint="a plugin of the network was killed while it took the sandbox's interface away",
            )  # fmt: skip
        return removed


async def _run(program: str, *arguments: str) -> str:
    """What a program says; nothing where it is not installed, or fails: what it was to remove may be gone."""
    if shutil.which(program) is None:
        return ""
    words: Sequence[str] = (program, *arguments)
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_PROGRAM_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return said.decode(errors="replace") if process.returncode == 0 else ""
