"""Network name spaces that are kept by mounts, and what is in them, as the kernel tells it.

Engines make one for each sandbox, named ``cni-<uuid>``, before anything else of it.

Source: proc(5) (mountinfo, fib_trie), namespaces(7), containernetworking/plugins pkg/testutils and containerd
pkg/netns/netns_linux.go (names).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import re
import threading
from pathlib import Path

from skerry.base.values import Struct

_NAME = re.compile(r"cni-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INODE = re.compile(r"net:\[(\d+)\]")
_LOCAL = re.compile(r"\|-- (\S+)\n\s*/32 host LOCAL")
_CLONE_NEWNET = 0x40000000


class Space(Struct, frozen=True):
    """A name space with an engine's name.

    Args:
        inode: which it is, whoever asks.
    """

    place: Path
    inode: int


def spaces_in(mountinfo: str, directory: Path) -> list[Space]:
    """Those that are mounted in a directory itself under an engine's names. Pure.

    Args:
        directory: without links.
    """
    found = []
    for line in mountinfo.splitlines():
        words = line.split()
        if len(words) < 8 or words[words.index("-") + 1] != "nsfs" or not (inode := _INODE.fullmatch(words[3])):
            continue
        place = Path(words[4])
        if place.parent == directory and _NAME.fullmatch(place.name):
            found.append(Space(place, int(inode[1])))
    return found


def own_addresses(fib_trie: str, if_inet6: str) -> set[str]:
    """Addresses of a name space's interfaces, but for those by which it reaches only itself or its link. Pure."""
    found = {ipaddress.ip_address(text) for text in _LOCAL.findall(fib_trie)}
    found |= {ipaddress.ip_address(bytes.fromhex(line.split()[0])) for line in if_inet6.splitlines() if line.strip()}
    return {str(address) for address in found if not address.is_loopback and not address.is_link_local}


def mounted_in(directory: Path) -> list[Space]:
    """Those that are mounted in a directory now."""
    return spaces_in(Path("/proc/self/mountinfo").read_text(errors="replace"), Path(os.path.realpath(directory)))


def entered(*, has_threads: bool) -> set[int]:
    """Inodes of the name spaces that a process is in; with ``has_threads`` any of its threads.

    The first process is left out: it was there before any engine, and may have rights that even root lacks.

    Raises:
        PermissionError: some process does not tell; it takes root.
    """
    found: set[str] = set()
    for name in os.listdir("/proc"):  # noqa: PTH208 - a few thousand entries, without an object for each
        if not name.isdigit() or name == "1":
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if has_threads:
                for thread in os.listdir(f"/proc/{name}/task"):  # noqa: PTH208
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        found.add(os.readlink(f"/proc/{name}/task/{thread}/ns/net"))  # noqa: PTH115
            else:
                found.add(os.readlink(f"/proc/{name}/ns/net"))  # noqa: PTH115
    return {int(inode[1]) for text in found if (inode := _INODE.fullmatch(text))}


def addresses_in_use() -> set[str]:
    """Addresses of all interfaces of the machine, in every name space that a process is in or a mount keeps.

    Raises:
        OSError: some name space may not be entered.
    """
    places: dict[int, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        words = line.split()
        if inode := _INODE.fullmatch(words[3]):
            places[int(inode[1])] = Path(words[4])
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and name != "1":
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                if inode := _INODE.fullmatch(os.readlink(f"/proc/{name}/ns/net")):  # noqa: PTH115
                    places.setdefault(int(inode[1]), Path(f"/proc/{name}/ns/net"))
    found: set[str] = set()
    for place in places.values():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= addresses_inside(place)
    return found


def addresses_inside(place: Path) -> set[str]:
    """Addresses of the interfaces in a name space; a thread of its own goes there and does not come back.

    Raises:
        OSError: it is no name space, or may not be entered.
    """
    found: list[set[str]] = []
    failed: list[OSError] = []

    def look() -> None:
        try:
            with place.open("rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"{place}: {os.strerror(code)}")
            inet6 = Path("/proc/thread-self/net/if_inet6")
            text = inet6.read_text() if inet6.exists() else ""
            found.append(own_addresses(Path("/proc/thread-self/net/fib_trie").read_text(), text))
        except OSError as exc:
            failed.append(exc)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
