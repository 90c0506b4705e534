"""Which handler of the engine runs pods of a RuntimeClass. Here to choose; not here: asking the cloud, and keeping."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skerry.api.gvk import Object
from skerry.api.status import ApiError, NotFound
from skerry.base.obs.log import get_log
from skerry.runtime.claims import Objects
from skerry.runtime.ports import EngineRefused

log = get_log(__name__)

_TYPE = "runtimeclass"


class RuntimeClasses:
    """Handlers by name of the class: what the node's owner set, else what the object says.

    The object is asked for each time a sandbox is made, so a class that was made anew counts from then on; where the
    cloud cannot be asked, the one that the node kept does. Pods that run are left alone.

    Args:
        objects: asks the cloud and keeps what it said.
        own: handlers that this node's settings name; they come first.
        is_answered: whether the node's cloud knows the question. With one that does not, the class is taken for the
            name of a handler.
    """

    def __init__(
        self, objects: Objects, *, own: Mapping[str, str] | None = None, is_answered: Callable[[], bool] = lambda: True
    ) -> None:
        self._objects = objects
        self._own = own or {}
        self._is_answered = is_answered

    async def handler(self, name: str) -> str:
        """The engine's handler; empty for its default, which is that of no class.

        Raises:
            EngineRefused: there is no such class, or none is known here and the cloud cannot be asked.
        """
        if not name:
            return ""
        if name in self._own:
            return self._own[name]
        if not self._is_answered():
            return name
        try:
            found = await self._objects.fresh(_TYPE, "", name)
        except NotFound as exc:
            raise _refused(name, "not found") from exc
        except ApiError as exc:
            found = await self._kept(name, exc)
        return str(found.get("handler") or "")

    async def _kept(self, name: str, why: ApiError) -> Object:
        try:
            found = await self._objects.get(_TYPE, "", name)
        except ApiError as exc:
            raise _refused(name, f"is not known on this node, and the cloud cannot be asked: {why.message}") from exc
        log.info("runtimeclass.kept", name=name, why=why.message)
        return found


def _refused(name: str, why: str) -> EngineRefused:
    return EngineRefused(
        f'RuntimeClass "{name}" {why}', reason="FailedCreatePodSandBox",
        hint="make the RuntimeClass, or name the engine's handler in this node's runtimeHandlers",
    )  # fmt: skip
