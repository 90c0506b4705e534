"""The process for certificates: started when wanted, ended when idle, replaced when it is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from skerry.base import x509
from skerry.base.certificates import CertifierFailed, X509Error
from skerry.base.certifier import ChildCertifier


@pytest.fixture
async def certifier() -> AsyncIterator[ChildCertifier]:
    made = ChildCertifier(idle_s=60)
    yield made
    await made.aclose()


async def ended(pid: int) -> None:
    """Wait until a child of ours is gone; the loop's watcher takes its exit code."""
    async with asyncio.timeout(30):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.01)


async def test_one_process_works_on_all_that_is_asked_at_once(certifier: ChildCertifier) -> None:
    assert not certifier.pid
    ca = await certifier.new_ca("a")
    pid = certifier.pid
    made = await asyncio.gather(*(certifier.issue_client(ca, f"user-{number}") for number in range(20)))
    assert certifier.pid == pid
    assert [x509.read_certificate(one.cert_der).common_name for one in made] == [f"user-{n}" for n in range(20)]


async def test_it_ends_when_nobody_asks_and_comes_back() -> None:
    certifier = ChildCertifier(idle_s=0.05)
    ca = await certifier.new_ca("a")
    first = certifier.pid
    if first:  # on a slow machine it may have ended already
        await ended(first)
    assert (await certifier.read_certificate(ca.cert_der)).common_name == "a"
    await certifier.aclose()
    assert not certifier.pid


async def test_an_order_over_which_the_process_is_killed_is_done_by_the_next(certifier: ChildCertifier) -> None:
    ca = await certifier.new_ca("a")
    first = certifier.pid
    os.kill(first, signal.SIGSTOP)  # so that the order waits
    order = asyncio.create_task(certifier.read_certificate(ca.cert_der))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    assert (await order).common_name == "a"
    assert certifier.pid not in (0, first)


async def test_an_order_that_nobody_waits_for_does_not_answer_the_next(certifier: ChildCertifier) -> None:
    first, second = await certifier.new_ca("first"), await certifier.new_ca("second")
    os.kill(certifier.pid, signal.SIGSTOP)
    given_up = asyncio.create_task(certifier.read_certificate(first.cert_der))
    for _ in range(5):
        await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    os.kill(certifier.pid, signal.SIGCONT)
    assert (await certifier.read_certificate(second.cert_der)).common_name == "second"


async def test_an_order_that_kills_every_process_fails_and_says_so() -> None:
    certifier = ChildCertifier(program=(sys.executable, "-c", "input()"))
    with pytest.raises(CertifierFailed, match="new_ca"):
        await certifier.new_ca("a")
    missing = ChildCertifier(program=("/nonexistent/program",))
    with pytest.raises(CertifierFailed, match="cannot start"):
        await missing.new_ca("a")
    await certifier.aclose()
    await missing.aclose()


async def test_a_bad_order_does_not_cost_the_process(certifier: ChildCertifier) -> None:
    await certifier.start()
    pid = certifier.pid
    with pytest.raises(X509Error, match="neither PEM nor DER"):
        await certifier.read_certificate(b"nonsense")
    assert certifier.pid == pid


async def test_it_does_not_outlive_who_started_it() -> None:
    code = (
        "import asyncio; from skerry.base.certifier import ChildCertifier\n"
        "async def main():\n"
        "    certifier = ChildCertifier(); await certifier.start(); print(certifier.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    await ended(pid)
