"""The last steps before a process is the program of a container, or a command in one: the same for both.

Imports only what costs no memory in every shim.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from skerry.runtime.process.rootfs import Libc

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38


def take_streams(out: int, err: int) -> None:
    """No input; output and errors to these."""
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)


def enter_cgroups(paths: Sequence[str]) -> None:
    """Be in these from now on."""
    for path in paths:
        fd = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")


def become(spec: Mapping[str, Any], libc: Libc, at_step: Callable[[str], None]) -> NoReturn:
    """Take limits, user and rights, and run ``argv``.

    Args:
        spec: ``argv``, ``env``, ``working_dir``, ``uid``, ``gid``, ``groups``, ``rlimits``, ``privileged``,
            ``oom_score_adj`` and ``call_filter``.
        at_step: told of each step before it is taken, for the message when it fails.

    Raises:
        OSError, ValueError: a step failed.
    """
    at_step("set limits")
    if spec.get("oom_score_adj") is not None:
        _set_oom_score(int(spec["oom_score_adj"]))
    for name, value in spec["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if not spec["privileged"]:
        at_step("give up rights")
        libc.give_up_rights()
    at_step("change the user")
    if spec["uid"] is not None:
        os.setgroups(spec["groups"])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    if not spec["privileged"]:
        libc.prctl(_SET_NO_NEW_PRIVS, 1)
    # After the user, because a change of that forgets it. If the shim is killed the program must not run on without a
    # log and a recorded end.
    libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if spec["working_dir"]:
        at_step(f"enter the working directory {spec['working_dir']}")
        os.chdir(spec["working_dir"])
    os.umask(0o022)
    if spec.get("call_filter"):
        at_step("filter system calls")
        libc.filter_calls(bytes.fromhex(spec["call_filter"]))
    at_step(f"run {spec['argv'][0]}")
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


def _set_oom_score(score: int) -> None:
    """Not the agent's own, which the kernel spares: the pod's. Who may not lower it keeps what there is."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)
    except OSError:
        pass
