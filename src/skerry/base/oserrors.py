"""Errors of the operating system in words, with what to do about them."""

from __future__ import annotations

import errno
import os

_REMEDIES = {
    errno.EACCES: "run as root or as the owner, or choose another directory",
    errno.EPERM: "run as root, or choose another directory",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; choose another one",
    errno.EISDIR: "name a file, not a directory",
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some of this user's quota",
    errno.EROFS: "the file system is mounted read-only; choose another directory",
    errno.EMFILE: "raise the limit of open files: ulimit -n 65536",
    errno.ENFILE: "the machine has too many open files",
    errno.EADDRINUSE: "another program uses the port (see `ss -ltnp`); choose another one",
    errno.EADDRNOTAVAIL: "choose an address of this machine (see `ip address`), or 0.0.0.0 for all",
    errno.ECONNREFUSED: "is the program that should answer running?",
    errno.ENETUNREACH: "this machine has no route there",
    errno.EHOSTUNREACH: "no way leads there; check network and firewall",
}


def in_words(exc: OSError) -> tuple[str, str]:
    """What is wrong and with which file, and the remedy (empty when there is none to tell)."""
    text = exc.strerror or (os.strerror(exc.errno) if exc.errno else "") or str(exc) or type(exc).__name__
    names = [os.fsdecode(name) for name in (exc.filename, exc.filename2) if isinstance(name, str | bytes)]
    where = " and ".join(names)
    return f"{where}: {text}" if where else text, _REMEDIES.get(exc.errno or 0, "")
