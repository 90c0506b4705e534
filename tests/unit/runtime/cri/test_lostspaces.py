"""What a killed containerd noted nowhere: which name spaces and addresses are nobody's, as kernel and engine tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.base import json
from skerry.runtime.cri.addresses import lease_directory
from skerry.runtime.cri.lostnets import Network
from skerry.runtime.cri.lostspaces import (
    Claims,
    Place,
    other_engines,
    place_of,
    ripe,
    space_of,
    unclaimed,
)
from skerry.runtime.cri.netspaces import Space, own_addresses, spaces_in

_OWN, _COMMON = Path("/run/containerd/io.containerd.grpc.v1.cri/netns"), Path("/run/netns")
_FIRST, _SECOND = "cni-0a8ed532-82e7-46b0-8eed-414001da97f7", "cni-5f2bc450-bbe1-9c25-8a4e-f2dd888928a7"
_SANDBOX = "ab" * 32

_MOUNTS = f"""\
22 27 0:21 / /proc rw,nosuid - proc proc rw
30 27 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw
44 30 0:4 net:[4026532177] {_OWN}/{_FIRST} rw - nsfs nsfs rw
45 30 0:4 net:[4026532249] {_COMMON}/{_SECOND} rw shared:9 master:2 - nsfs nsfs rw
46 30 0:4 net:[4026532320] {_COMMON}/blue rw shared:9 - nsfs nsfs rw
47 30 0:4 net:[4026532321] {_COMMON}/cni-of-mine rw shared:9 - nsfs nsfs rw
48 30 0:4 net:[4026532322] {_COMMON}/netns-738528cd-b65f-e30f-7b80-c9542a707ab9 rw shared:9 - nsfs nsfs rw
49 30 0:4 net:[4026532323] {_COMMON}/2f8a3c5e-b65f-e30f-7b80-c9542a707ab9 rw shared:9 - nsfs nsfs rw
50 30 0:4 net:[4026532391] /run/docker/netns/3fe35295fae5 rw shared:9 - nsfs nsfs rw
51 30 0:4 uts:[4026532392] {_COMMON}/cni-5f2bc450-bbe1-9c25-8a4e-f2dd888928a8 rw shared:9 - nsfs nsfs rw
52 30 0:25 /netns {_COMMON} rw,nosuid shared:5 - tmpfs tmpfs rw
53 30 0:25 /x {_COMMON}/cni-5f2bc450-bbe1-9c25-8a4e-f2dd888928a9 rw shared:5 - tmpfs tmpfs rw
54 30 0:4 net:[4026532393] {_COMMON}/more/cni-5f2bc450-bbe1-9c25-8a4e-f2dd888928b0 rw - nsfs nsfs rw
"""

_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 10.231.9.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 4
     +-- 10.231.9.0/24 2 0 2
        +-- 10.231.9.0/30 2 0 2
           |-- 10.231.9.0
              /24 link UNICAST
           |-- 10.231.9.2
              /32 host LOCAL
        |-- 10.231.9.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""
_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000009cc2a6fffe1f3b1c 03 40 20 80        v
fd000000000000000000000000000005 03 40 00 82        v
"""


def test_only_name_spaces_with_an_engines_name_are_seen_and_only_in_its_place() -> None:
    assert spaces_in(_MOUNTS, _OWN) == [Space(_OWN / _FIRST, 4026532177)]
    assert spaces_in(_MOUNTS, _COMMON) == [Space(_COMMON / _SECOND, 4026532249)]
    assert spaces_in(_MOUNTS, Path("/run/docker/netns")) == spaces_in("", _OWN) == []


def test_addresses_are_those_that_others_can_reach() -> None:
    assert own_addresses(_TRIE, _INET6) == {"10.231.9.2", "fd00::5"}
    assert own_addresses("", "") == set()


def config(**settings: object) -> dict[str, str]:
    return {"config": json.dumps({"stateDir": "/run/containerd/io.containerd.grpc.v1.cri", **settings}).decode()}


def test_containerd_tells_where_it_keeps_name_spaces() -> None:
    assert place_of(config(netnsMountsUnderStateDir=True)) == Place(_OWN, is_private=True)
    assert place_of(config(netnsMountsUnderStateDir=False)) == Place(_COMMON, is_private=False)
    for other in ({}, {"config": ""}, {"config": "[]"}, {"config": "{}"}, {"sandboxImage": "pause"}):
        assert place_of(other) is None


def answer(**told: object) -> dict[str, Any]:
    return {"info": {"info": json.dumps(told).decode()}}


def test_a_sandbox_tells_which_name_space_it_has() -> None:
    others = [{"type": "pid"}, {"type": "ipc"}]
    own = {"linux": {"namespaces": [*others, {"type": "network", "path": f"/var/run/netns/{_FIRST}"}]}}
    assert space_of(answer(runtimeSpec=own)) == _FIRST
    assert space_of(answer(runtimeSpec={"linux": {"namespaces": others}})) == ""  # the machine's network
    metadata = {"Metadata": {"NetNSPath": f"/var/run/netns/{_SECOND}"}}
    assert space_of(answer(runtimeSpec=None, sandboxMetadata=metadata)) == _SECOND
    assert space_of(answer(runtimeSpec={"linux": {}}, sandboxMetadata={"Metadata": {"NetNSPath": ""}})) == ""


@pytest.mark.parametrize("told", [{}, {"runtimeSpec": None}, {"runtimeSpec": {"linux": None}, "sandboxMetadata": None}])
def test_a_sandbox_that_does_not_tell_may_have_any(told: dict[str, Any]) -> None:
    assert space_of(answer(**told)) is None
    assert space_of({}) is None and space_of({"info": {"info": "?"}}) is None


def names(found: list[Space]) -> list[str]:
    return [space.place.name for space in found]


def test_a_name_space_of_a_sandbox_is_claimed() -> None:
    spaces = [Space(_OWN / name, number) for number, name in enumerate((_FIRST, _SECOND))]
    claims = Claims(frozenset({_SANDBOX}), frozenset({_FIRST, ""}), {})
    for place in (Place(_OWN, is_private=True), Place(_COMMON, is_private=False)):
        assert names(unclaimed(spaces, claims, place)) == [_SECOND]


def test_a_note_of_an_unknown_sandbox_is_believed_only_where_others_may_have_written_it() -> None:
    spaces = [Space(_OWN / name, number) for number, name in enumerate((_FIRST, _SECOND))]
    claims = Claims(frozenset({_SANDBOX}), frozenset(), {_FIRST: _SANDBOX, _SECOND: "cd" * 32})
    assert names(unclaimed(spaces, claims, Place(_OWN, is_private=True))) == [_SECOND]
    assert unclaimed(spaces, claims, Place(_COMMON, is_private=False)) == []


def test_what_an_earlier_engine_left_is_ripe_at_the_second_look() -> None:
    made_at_s = {"old": 99.0, "young": 101.0}
    assert ripe(made_at_s, first_s={}, now_s=0.0, engine_began_at_s=100.0) == set()
    assert ripe(made_at_s, first_s={"old": 0.0, "young": 0.0}, now_s=60.0, engine_began_at_s=100.0) == {"old"}


def test_what_the_running_engine_made_is_ripe_when_no_sandbox_takes_that_long() -> None:
    first_s = {"young": 1000.0, "gone": 0.0}
    for now_s, expected in ((1599.0, set()), (1600.0, {"young"})):
        assert ripe({"young": 101.0}, first_s=first_s, now_s=now_s, engine_began_at_s=100.0) == expected


def test_other_engines_of_the_machine_are_named() -> None:
    ours = {1: "systemd", 70: "containerd", 71: "containerd-shim", 80: "dockerd", 90: "sh"}
    assert other_engines(ours, 70) == set()
    assert other_engines({**ours, 100: "containerd", 101: "conmon", 102: "podman"}, 70) == {
        "containerd", "conmon", "podman",
    }  # fmt: skip
    assert other_engines(ours, 0) == {"containerd"}


def test_addresses_are_written_down_where_the_network_says() -> None:
    bridge = {"type": "bridge", "ipam": {"type": "host-local", "dataDir": "/data"}}
    usual = {"cniVersion": "0.4.0", "name": "skerry", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]}
    networks = [
        Network("lo", {"name": "cni-loopback", "plugins": [{"type": "loopback"}]}),
        Network("eth0", usual), Network("eth0", {"name": "one", **bridge}),
        Network("eth1", {"name": "asked", "type": "macvlan", "ipam": {"type": "dhcp"}}),
    ]  # fmt: skip
    assert [lease_directory(network) for network in networks] == [
        None,
        Path("/var/lib/cni/networks/skerry"),
        Path("/data/one"),
        None,
    ]
