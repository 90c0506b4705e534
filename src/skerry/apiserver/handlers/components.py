"""``componentstatuses``: the parts of the control plane, which are alive when this process answers. Never stored."""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.api.status import not_found
from skerry.apiserver.calls import Answer, Call, ListAnswer
from skerry.apiserver.store.entry import Entry, encode
from skerry.apiserver.store.log import Key

_PARTS = ("controller-manager", "etcd-0", "scheduler")


def get(call: Call) -> Answer:
    """One part.

    Raises:
        NotFound: there is no such part.
    """
    if call.name not in _PARTS:
        raise not_found("componentstatuses", call.name)
    return Answer(200, _entry(call.name))


def page(rv: int) -> ListAnswer:
    """Every part."""
    return ListAnswer([_entry(name) for name in _PARTS], rv)


def _entry(name: str) -> Entry:
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    content: Object = {"metadata": {"name": name}, "conditions": [condition]}
    return Entry(Key("", "", name), "", 0, 0, encode(content))
