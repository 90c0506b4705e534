"""Which system calls a process of a pod may not make: a classic BPF program for ``PR_SET_SECCOMP``. Pure.

Refused is what lets a program without rights reach rarely used kernel code: new namespaces, those of other processes,
BPF, performance events, kernel keys, userfaultfd, io_uring. Everything else is allowed, as a pod without a profile has
it elsewhere. A second ABI of the same kernel (32-bit programs on a 64-bit kernel) is filtered, too; an unknown one is
refused as a whole.

Source: linux include/uapi/linux/{seccomp,filter,audit}.h; numbers of arch/*/entry/syscalls and asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

from skerry.base.values import Struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ABI_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # struct seccomp_data, little endian
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_X32 = 0x40000000

_NOT_THERE = {"clone3": 435, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
"""Answered with ENOSYS, so that programs fall back; ``clone3`` hides its flags behind a pointer. Same everywhere."""


class _Abi(Struct, frozen=True):
    """One way to call the kernel: its audit number, and the number of clone(2).

    Args:
        refused: unshare, setns, bpf, perf_event_open, userfaultfd, add_key, request_key, keyctl.
    """

    audit: int
    clone: int
    refused: tuple[int, ...]
    has_x32: bool = False


_I386 = _Abi(0x40000003, 120, (310, 346, 357, 336, 374, 286, 287, 288))
_AMD64 = _Abi(0xC000003E, 56, (272, 308, 321, 298, 323, 248, 249, 250), has_x32=True)
_ARM = _Abi(0x40000028, 120, (337, 375, 386, 364, 388, 309, 310, 311))
_ARM64 = _Abi(0xC00000B7, 220, (97, 268, 280, 241, 282, 217, 218, 219))
_RISCV64 = _Abi(0xC00000F3, 220, (97, 268, 280, 241, 282, 217, 218, 219))

_ABIS: Mapping[str, tuple[_Abi, ...]] = {
    "x86_64": (_AMD64, _I386),
    "i686": (_I386,),
    "aarch64": (_ARM64, _ARM),
    "armv7l": (_ARM,),
    "armv6l": (_ARM,),
    "riscv64": (_RISCV64,),
}


def call_filter(machine: str) -> bytes:
    """The program.

    Args:
        machine: as ``uname -m`` says it.

    Returns:
        Instructions (``struct sock_filter``, 8 bytes each); empty for a machine whose call numbers are not known.
    """
    abis = _ABIS.get(machine, ())
    if not abis:
        return b""
    program = [_step(_LOAD, _ABI_AT)]
    for abi in abis:
        block = _block(abi)
        program += [_step(_EQUAL, abi.audit, 0, len(block)), *block]
    return b"".join([*program, _refuse(errno.EPERM)])


def _block(abi: _Abi) -> list[bytes]:
    steps = [_step(_LOAD, _NUMBER_AT)]
    if abi.has_x32:
        steps += [_step(_AT_LEAST, _X32, 0, 1), _refuse(errno.EPERM)]
    for number in abi.refused:
        steps += [_step(_EQUAL, number, 0, 1), _refuse(errno.EPERM)]
    for number in _NOT_THERE.values():
        steps += [_step(_EQUAL, number, 0, 1), _refuse(errno.ENOSYS)]
    steps += [_step(_EQUAL, abi.clone, 1, 0), _step(_ANSWER, _ALLOW)]
    steps += [_step(_LOAD, _FIRST_ARGUMENT_AT), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _refuse(errno.EPERM)]
    return [*steps, _step(_ANSWER, _ALLOW)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _step(_ANSWER, _REFUSE | number)
