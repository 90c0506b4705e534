"""Commands that ask a cluster: where its credentials come from, and how a connection is opened and closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.api.status import ApiError, Forbidden, Unauthorized, Unavailable
from skerry.app.places import cloud_data, data_root
from skerry.base.errors import ConfigError, Refused, SkerryError
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.kube.ports import KubeApi

KUBECONFIG = "admin.kubeconfig"


class CommandFailed(SkerryError):
    """The cluster answered with an error."""


def find_kubeconfig(given: Path | None, data: Path | None) -> Path | None:
    """The file to use: as given, else that of a cloud in ``data`` or on this machine unless ``$KUBECONFIG`` is set."""
    if given is not None:
        return given
    if data is not None:
        for path in (data / KUBECONFIG, data / "cloud" / KUBECONFIG):
            if path.exists():
                return path
        raise ConfigError(f"no cloud has run in {data}", hint="name the cloud's --data, or a --kubeconfig")
    if os.environ.get("KUBECONFIG"):
        return None
    places = [cloud_data(None), data_root() / "up/cloud", data_root() / "demo/cloud"]
    return next((place / KUBECONFIG for place in places if (place / KUBECONFIG).exists()), None)


@asynccontextmanager
async def open_transport(kubeconfig: Path | None) -> AsyncIterator[HttpTransport]:
    """A connection; closed when left."""
    transport = HttpTransport(credentials.find(kubeconfig))
    try:
        yield transport
    finally:
        await transport.aclose()


@asynccontextmanager
async def open_api(kubeconfig: Path | None) -> AsyncIterator[HttpKubeApi]:
    """A connection as ``KubeApi``; closed when left."""
    async with open_transport(kubeconfig) as transport:
        yield HttpKubeApi(transport)


def run(work: Callable[[KubeApi], Awaitable[int]], *, kubeconfig: Path | None, data: Path | None) -> int:
    """Run one command against the cluster; its exit code. Errors of the API become errors in words."""

    async def connected() -> int:
        async with open_api(find_kubeconfig(kubeconfig, data)) as api:
            return await work(api)

    return run_translated(connected)


def run_translated(work: Callable[[], Awaitable[int]]) -> int:
    """Run a coroutine; what the API server answered becomes the command's error."""

    async def translated() -> int:
        try:
            return await work()
        except (Forbidden, Unauthorized) as exc:
            raise Refused(exc.message, hint="use credentials that may do this (--kubeconfig)") from exc
        except Unavailable as exc:
            hint = exc.hint or "is the cloud running, and is this its kubeconfig? on its machine: skerry doctor"
            raise CommandFailed(exc.message, hint=hint) from exc
        except ApiError as exc:
            raise CommandFailed(exc.message, hint=exc.hint) from exc

    return asyncio.run(translated())
