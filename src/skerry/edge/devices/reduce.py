"""What a twin becomes when something is said about it: pure functions from (device, event) to an ``Outcome``.

Words: *expected* is the wanted value, as the cloud's Device or a local application asks for it. *observed* is the
wanted value that the device is known to have taken: its mapper said so, or the device reports the same value. *actual*
is what the device reports. Versions count changes: ``edge`` those made on this node, ``cloud`` those made there.
Not here: storing, publishing, sending (``edge.devices.twins``).
"""

from __future__ import annotations

from collections.abc import Mapping

from skerry.api.devices import same_value
from skerry.base.errors import DeviceError
from skerry.base.values import Struct, field, replace
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.twin import MsgTwin, Value, Version

MAX_PROPERTIES = 1000
"""Properties that one device may have; a client that invents names cannot fill the disk."""

_TYPES = {"INT": "int", "FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "boolean"}
_KNOWN_TYPES = frozenset({"", "string", "int", "integer", "float", "double", "boolean", "bytes", "deleted"})


class TwinRefused(DeviceError):
    """A document asks for something impossible; ``code`` goes into the error document."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Twin(Struct, frozen=True):
    """One property of one device as this node knows it."""

    expected: Value | None = None
    observed: Value | None = None
    actual: Value | None = None
    type: str = "string"
    optional: bool = True
    expected_version: Version = field(default_factory=Version)
    actual_version: Version = field(default_factory=Version)
    reported_ms: int = 0

    def local(self) -> MsgTwin:
        """As local applications see it."""
        return MsgTwin(self.expected, self.actual, self.optional, self.type, self.expected_version, self.actual_version)

    def upward(self) -> MsgTwin:
        """As the cloud is told: its *expected* is what the device has taken."""
        return MsgTwin(self.observed, self.actual, self.optional, self.type, self.expected_version, self.actual_version)


class Device(Struct, frozen=True):
    """One device and its twins."""

    device_id: str
    description: str = ""
    state: str = ""
    last_online: str = ""
    twins: Mapping[str, Twin] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The part after the slash."""
        return self.device_id.partition("/")[2]


class Reading(Struct, frozen=True):
    """What a mapper says about one property; a side that is None is not said.

    Args:
        actual: reported value.
        observed: wanted value that was written to the device.
        type: ``int``, ``float``, ``boolean``, ``string``…; empty leaves it.
    """

    actual: Value | None = None
    observed: Value | None = None
    type: str = ""


class Publish(Struct, frozen=True):
    """A document for local applications."""

    topic: str
    payload: bytes


class Outcome(Struct, frozen=True):
    """What to store, to publish and to report.

    Args:
        device: the new state.
        changed: properties whose row differs from before; also removed ones.
        publish: in this order.
        report: what the cloud must learn, for one ``edge_updated``.
        state_changed: whether the cloud must learn the state.
    """

    device: Device
    changed: frozenset[str] = frozenset()
    publish: tuple[Publish, ...] = ()
    report: Mapping[str, MsgTwin] = field(default_factory=dict)
    state_changed: bool = False


def read(
    device: Device, readings: Mapping[str, Reading], *, event_id: str, now_ms: int, refresh_ms: int = 60_000
) -> Outcome:
    """A mapper reports. A value that did not change is told again only after ``refresh_ms``.

    Raises:
        TwinRefused: more properties than a device may have.
    """
    twins = dict(device.twins)
    report: dict[str, MsgTwin] = {}
    changed: dict[str, tuple[MsgTwin | None, MsgTwin | None]] = {}
    for name, reading in readings.items():
        before = twins.get(name)
        after = _take(before or Twin(), reading, now_ms)
        if before is not None and not _is_news(before, after, refresh_ms):
            continue
        after = replace(after, reported_ms=now_ms)
        twins[name] = after
        report[name] = after.upward()
        changed[name] = (before.local() if before else None, after.local())
    _check_count(twins)
    result = replace(device, twins=twins)
    publish = _documents(result, changed, event_id, now_ms)
    return Outcome(result, frozenset(changed), publish, report)


def update(device: Device, message: docs.TwinMessage, *, now_ms: int) -> Outcome:
    """A local client sends ``twin/update``: all properties or none.

    Raises:
        TwinRefused: a removal of what is not optional, a type that cannot be, a value that is not of its type.
    """
    twins = dict(device.twins)
    report: dict[str, MsgTwin] = {}
    changed: dict[str, tuple[MsgTwin | None, MsgTwin | None]] = {}
    for name, wanted in message.twin.items():
        before = twins.get(name)
        if wanted is None:
            if before is None:
                continue
            if not before.optional:
                raise TwinRefused(docs.BAD_REQUEST, f"property {name} is not optional and cannot be removed")
            del twins[name]
            changed[name] = (before.local(), None)
            continue
        after = _write(name, before, wanted, now_ms)
        twins[name] = after
        changed[name] = (before.local() if before else None, after.local())
        if before is None or _differs(before, after):
            report[name] = after.upward()
    _check_count(twins)
    result = replace(device, twins=twins)
    answer = docs.result(message.event_id, now_ms, {name: new for name, (_, new) in changed.items() if new})
    publish = (
        Publish(docs.device_topic(device.device_id, "twin/update/result"), answer),
        *_documents(result, changed, message.event_id, now_ms),
    )
    return Outcome(result, frozenset(changed), publish, report)


def desire(
    device: Device, wanted: Mapping[str, str | None], types: Mapping[str, str], *, event_id: str, now_ms: int
) -> Outcome:
    """The cloud's Device asks for values.

    Args:
        wanted: every property of the Device; None where it asks for nothing.
        types: the model's type of each property.
    """
    twins = dict(device.twins)
    changed: dict[str, tuple[MsgTwin | None, MsgTwin | None]] = {}
    for name, value in wanted.items():
        before = twins.get(name)
        base = before or Twin()
        kind = twin_type(types.get(name, ""))
        after = replace(base, type=kind, optional=False)
        if (base.expected.value if base.expected else None) != value:
            version = Version(_next(base.expected_version.cloud, now_ms), base.expected_version.edge)
            after = replace(
                after, expected=None if value is None else Value(value, now_ms), observed=None, expected_version=version
            )
            after = _observe_equal(after)
        if after != before:
            twins[name] = after
            changed[name] = (before.local() if before else None, after.local())
    result = replace(device, twins=twins)
    is_new_wish = any(last is None or new is None or last.expected != new.expected for last, new in changed.values())
    publish = _delta(result, event_id, now_ms) if is_new_wish else ()
    return Outcome(result, frozenset(changed), publish)


def state(device: Device, said: str, *, event_id: str, now_ms: int, now_text: str) -> Outcome:
    """A mapper or client reports the device's state.

    Args:
        said: one of ``docs.STATES``, in any case.
        now_text: now in RFC 3339, UTC.

    Raises:
        TwinRefused: not a state.
    """
    said = said.lower()
    if said not in docs.STATES:
        raise TwinRefused(docs.BAD_REQUEST, f"state {said!r:.40} is none of {', '.join(sorted(docs.STATES))}")
    is_up = said in ("online", "ok")
    last_online = now_text if is_up or device.state in ("online", "ok") else device.last_online
    result = replace(device, state=said, last_online=last_online)
    body = docs.state_result(event_id, now_ms, device.name, said, last_online)
    publish = (Publish(docs.device_topic(device.device_id, "state/update/result"), body),)
    return Outcome(result, publish=publish, state_changed=said != device.state)


def twin_type(kind: str) -> str:
    """The twin's type for a model's type: those that every peer knows."""
    return _TYPES.get(kind.upper(), "string")


def get(device: Device, *, event_id: str, now_ms: int) -> Publish:
    """The answer to ``twin/get``."""
    body = docs.result(event_id, now_ms, {name: twin.local() for name, twin in device.twins.items()})
    return Publish(docs.device_topic(device.device_id, "twin/get/result"), body)


def _take(before: Twin, reading: Reading, now_ms: int) -> Twin:
    after = before
    if reading.type and reading.type in _KNOWN_TYPES and before.type == "string":
        after = replace(after, type=reading.type)
    if reading.actual is not None:
        after = replace(
            after, actual=_stamped(reading.actual, now_ms), actual_version=_edge(after.actual_version, now_ms)
        )
    if reading.observed is not None and reading.observed.value and reading.observed != before.observed:
        after = replace(
            after,
            observed=_stamped(reading.observed, now_ms),
            expected=after.expected or _stamped(reading.observed, now_ms),
            expected_version=_edge(after.expected_version, now_ms),
        )
    return _observe_equal(after)


def _write(name: str, before: Twin | None, wanted: MsgTwin, now_ms: int) -> Twin:
    base = before or Twin(optional=wanted.optional is not False)
    if wanted.optional is True and not base.optional:
        raise TwinRefused(docs.BAD_REQUEST, f"property {name} is not optional and cannot become so")
    if wanted.optional is False:
        base = replace(base, optional=False)
    if wanted.type:
        if wanted.type not in _KNOWN_TYPES - {"", "deleted"}:
            raise TwinRefused(docs.BAD_REQUEST, f"property {name}: type {wanted.type!r:.40} is not known")
        if before is not None and before.type not in (wanted.type, "string"):
            raise TwinRefused(docs.BAD_REQUEST, f"property {name} has type {before.type}, not {wanted.type}")
        base = replace(base, type=wanted.type)
    for value in (wanted.actual, wanted.expected):
        if value is not None and not _is_of_type(value.value, base.type):
            raise TwinRefused(docs.BAD_REQUEST, f"property {name}: {value.value!r:.60} is not of type {base.type}")
    if wanted.actual is not None:
        base = replace(base, actual=_stamped(wanted.actual, now_ms), actual_version=_edge(base.actual_version, now_ms))
    if wanted.expected is not None:
        value = _stamped(wanted.expected, now_ms)
        base = replace(base, expected=value, observed=value, expected_version=_edge(base.expected_version, now_ms))
    return replace(_observe_equal(base), reported_ms=now_ms)


def _observe_equal(twin: Twin) -> Twin:
    """A device that reports the wanted value has taken it, whoever told it."""
    if twin.expected is None or twin.actual is None or twin.observed is not None:
        return twin
    if not same_value(twin.expected.value, twin.actual.value, twin.type):
        return twin
    return replace(twin, observed=replace(twin.expected, timestamp_ms=twin.actual.timestamp_ms))


def _is_news(before: Twin, after: Twin, refresh_ms: int) -> bool:
    if _differs(before, after):
        return True
    if after.actual is None or before.actual is None:
        return False
    return after.actual.timestamp_ms - before.actual.timestamp_ms >= refresh_ms


def _differs(before: Twin, after: Twin) -> bool:
    return (
        _text(before.actual) != _text(after.actual)
        or _text(before.observed) != _text(after.observed)
        or _text(before.expected) != _text(after.expected)
        or before.type != after.type
    )


def _text(value: Value | None) -> str | None:
    return None if value is None else value.value


def _stamped(value: Value, now_ms: int) -> Value:
    return value if value.timestamp_ms > 0 else Value(value.value, now_ms)


def _edge(version: Version, now_ms: int) -> Version:
    return Version(version.cloud, _next(version.edge, now_ms))


def _next(counter: int, now_ms: int) -> int:
    """The first count is the time in seconds, so that a node that lost its disk does not count from below."""
    return max(counter + 1, now_ms // 1000 if counter == 0 else 0)


def _documents(
    device: Device, changed: Mapping[str, tuple[MsgTwin | None, MsgTwin | None]], event_id: str, now_ms: int
) -> tuple[Publish, ...]:
    if not changed:
        return ()
    body = docs.document(event_id, now_ms, changed)
    topic = docs.device_topic(device.device_id, "twin/update/document")
    return (Publish(topic, body), *_delta(device, event_id, now_ms))


def _delta(device: Device, event_id: str, now_ms: int) -> tuple[Publish, ...]:
    wishes = {name: twin for name, twin in device.twins.items() if twin.expected is not None and twin.expected.value}
    wanted = {
        name: twin.expected.value
        for name, twin in wishes.items()
        if twin.expected is not None
        and (twin.actual is None or not same_value(twin.expected.value, twin.actual.value, twin.type))
    }
    if not wanted:
        return ()
    body = docs.delta(event_id, now_ms, {name: twin.local() for name, twin in wishes.items()}, wanted)
    return (Publish(docs.device_topic(device.device_id, "twin/update/delta"), body),)


def _is_of_type(text: str, kind: str) -> bool:
    if kind == "boolean":
        return text in ("true", "false")
    try:
        if kind in ("int", "integer"):
            return -(2**63) <= int(text, 10) < 2**63
        if kind in ("float", "double"):
            float(text)
    except ValueError:
        return False
    return True


def _check_count(twins: Mapping[str, Twin]) -> None:
    if len(twins) > MAX_PROPERTIES:
        raise TwinRefused(docs.BAD_REQUEST, f"a device has at most {MAX_PROPERTIES} properties")
