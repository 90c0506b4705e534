"""The Devices and DeviceModels of this node, as the object store has them.

Level-triggered: objects may come in any order, a device becomes drivable when its model is there. Here: the objects,
their merged views, who must be told. Not here: twins (``twins``), mappers (``dmi``, ``mapper``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skerry.api import devices as meaning
from skerry.api.devices import DeviceView
from skerry.api.gvk import Object
from skerry.base.values import Struct
from skerry.edge.store.objects import EdgeObjects

DEVICE = "device"
MODEL = "devicemodel"


class Change(Struct, frozen=True):
    """One object changed. ``type`` is ``DEVICE`` or ``MODEL``; ``new`` is None when it is gone."""

    type: str
    id: str
    old: Object | None
    new: Object | None


Listener = Callable[[Change], None]


class Catalog:
    """Objects by ``<namespace>/<name>``; tells listeners about every change of a spec, in order."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {DEVICE: {}, MODEL: {}}
        self._views: dict[str, DeviceView] = {}
        self._listeners: list[Listener] = []

    def on_change(self, listener: Listener) -> None:
        """Tell ``listener`` from now on; it must not block."""
        self._listeners.append(listener)

    def follow(self, objects: EdgeObjects) -> None:
        """Take what the object store holds, and every change from now on."""
        for kind in (MODEL, DEVICE):
            for key, obj in objects.list(kind).items():
                self.apply(key, obj)
        objects.subscribe(lambda change: self.apply(change.key, change.new))

    def apply(self, key: str, obj: Object | None) -> None:
        """An object of the store changed.

        Args:
            key: ``<namespace>/device/<name>`` or ``<namespace>/devicemodel/<name>``; any other type is ignored.
            obj: its new state; None when it is gone.
        """
        parts = key.split("/")
        if len(parts) != 3 or parts[1] not in self._objects:
            return
        kind, object_id = parts[1], f"{parts[0]}/{parts[2]}"
        objects = self._objects[kind]
        old = objects.get(object_id)
        if obj is None:
            objects.pop(object_id, None)
        else:
            objects[object_id] = obj
        self._forget_views(kind, object_id)
        if old is None and obj is None:
            return
        if old is not None and obj is not None and meaning.same_spec(old, obj):
            return
        for listener in self._listeners:
            listener(Change(kind, object_id, old, obj))

    def device(self, device_id: str) -> Object | None:
        """A Device as stored."""
        return self._objects[DEVICE].get(device_id)

    def model(self, model_id: str) -> Object | None:
        """A DeviceModel as stored."""
        return self._objects[MODEL].get(model_id)

    def model_of(self, device_id: str) -> Object | None:
        """The model of a device; None while either is missing."""
        device = self.device(device_id)
        return None if device is None else self.model(meaning.model_id(device))

    @property
    def devices(self) -> Mapping[str, Object]:
        """Every Device by id."""
        return self._objects[DEVICE]

    @property
    def models(self) -> Mapping[str, Object]:
        """Every DeviceModel by id."""
        return self._objects[MODEL]

    def view(self, device_id: str) -> DeviceView | None:
        """A device with its model merged in; None while either is missing."""
        if device_id not in self._views:
            device, model = self.device(device_id), self.model_of(device_id)
            if device is None or model is None:
                return None
            self._views[device_id] = meaning.view(device, model)
        return self._views[device_id]

    def views(self) -> list[DeviceView]:
        """Every device whose model is there."""
        return [view for device_id in self.devices if (view := self.view(device_id)) is not None]

    def users_of(self, model_id: str) -> list[str]:
        """Ids of the devices that name a model."""
        return [device_id for device_id, device in self.devices.items() if meaning.model_id(device) == model_id]

    def _forget_views(self, kind: str, object_id: str) -> None:
        if kind == DEVICE:
            self._views.pop(object_id, None)
            return
        for device_id in self.users_of(object_id):
            self._views.pop(device_id, None)
