"""Rules of masquerading and host ports that outlive their sandbox.

The bridge plugin takes a sandbox's interface away first, and its chain in the table ``nat`` afterwards; asked again, it
finds no interface, and so no address, and leaves the chain. Whoever kills a plugin in between, as containerd does when
its caller is killed, leaves a chain for good; and the iptables that the plugin had started may add one after all was
undone. The rules name network and sandbox. A sandbox that has no address in that network, that no note tells of and
that the engine does not know, has none of them, whosever it was. A chain of a host port that nothing leads to, or one
of masquerading that is empty as well, serves nobody.

Source: containernetworking/plugins plugins/main/bridge/bridge.go (cmdDel), pkg/ip/ipmasq_iptables_linux.go,
plugins/meta/portmap/portmap_iptables.go, pkg/utils/utils.go (names and comments); iptables-save(8).
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field
from skerry.runtime.cri.addresses import lease_directory, leases_of
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.lostnets import NOTES, LostNetworks, Network, networks_of
from skerry.runtime.cri.lostshims import all_of
from skerry.runtime.ports import EngineError

log = get_log(__name__)

LOOK_S = 60.0
_PROGRAMS = ("iptables", "ip6tables")
_PROGRAM_S = 30.0
_MASQUERADE = re.compile(r"CNI-[0-9a-f]{24}")
_PORTS = re.compile(r"CNI-DN-[0-9a-f]{21}")
_COMMENT = re.compile(r'(?:dnat )?name: "([^"]+)" id: "([0-9a-f]{64})"')
_CALM_LOOKS = 10
"""So many looks are left out at most while no sandbox came or went."""


class Chain(Struct, frozen=True):
    """One sandbox's chain in one network.

    Args:
        sandbox: empty, as the network, where nothing leads to the chain: one of a host port, or an empty one.
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
        if line.startswith(":"):
            owners.setdefault(line[1:].split()[0], set())
        if not line.startswith("-A "):
            continue
        words = shlex.split(line)
        comment = words[words.index("--comment") + 1] if "--comment" in words[:-1] else ""
        told = _COMMENT.fullmatch(comment)
        owner = (told[1], told[2]) if told else ("", "")
        target = words[words.index("-j") + 1] if "-j" in words[:-1] else ""
        if _MASQUERADE.fullmatch(words[1]):
            owners.setdefault(words[1], set()).add(owner)
        if _MASQUERADE.fullmatch(target) or _PORTS.fullmatch(target):
            owners.setdefault(target, set()).add(owner)
            jumps.setdefault(target, []).append(tuple(words))
    found = []
    for name, named in owners.items():
        if not named and (_PORTS.fullmatch(name) or _MASQUERADE.fullmatch(name)):
            found.append(Chain(name, "", ""))
        elif len(named) == 1 and ("", "") not in named:
            found.append(Chain(name, *next(iter(named)), tuple(jumps.get(name, ()))))
    return found


def removal(chain: Chain) -> list[list[str]]:
    """What iptables is told to remove a chain and what leads there. Pure."""
    return [*(["-D", *jump[1:]] for jump in chain.jumps), ["-F", chain.name], ["-X", chain.name]]


def with_rules(networks: Iterable[Network]) -> list[Network]:
    """Those whose plugins make such chains, and whose addresses host-local gives. Pure."""
    found = []
    for network in networks:
        plugins = network.configuration.get("plugins") or [network.configuration]
        makes_rules = any(plugin.get("ipMasq") or plugin.get("type") == "portmap" for plugin in plugins)
        if makes_rules and lease_directory(network) is not None:
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
        self._left_out = 0

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
        networks = with_rules(networks_of((await self._client.call("Status", {"verbose": True})).get("info", {}))[1])
        held = frozenset({lease.sandbox for lease in leases_of(networks)} | self._networks.sandboxes())
        if not networks or (held == self._clean and self._left_out < _CALM_LOOKS):
            self._left_out += 1
            return 0
        self._left_out = 0
        names = {str(network.configuration["name"]) for network in networks}
        found = {
            (program, chain.name): chain
            for program in _PROGRAMS
            for chain in chains_in(await _run(f"{program}-save", "-t", "nat"))
            if not chain.sandbox or (chain.network in names and chain.sandbox not in held)
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
                hint="a plugin of the network was killed while it made or undid the sandbox's network",
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
