"""What a lost sandbox's networks are undone with, from the notes and configuration that containerd and libcni write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.base import json
from skerry.runtime.cri.lostnets import Network, arguments_of, has_no_result, networks_of, read_note, requests

_SANDBOX, _UID = "ab" * 32, "0c9f1f0e-0000-4000-8000-000000000001"
_CONFIGURATION = {
    "cniVersion": "0.4.0", "name": "skerry",
    "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}},
                {"type": "portmap", "capabilities": {"portMappings": True, "bandwidth": False}}],
}  # fmt: skip
_NOTE: dict[str, Any] = {
    "kind": "cniCacheV1", "containerId": _SANDBOX, "config": "e30=", "ifName": "eth0", "networkName": "skerry",
    "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"], ["K8S_POD_UID", _UID]],
    "capabilityArgs": {"portMappings": [{"hostPort": 80}], "dns": {}},
    "result": {"cniVersion": "0.4.0", "interfaces": [
        {"name": "skerry0"}, {"name": "eth0", "sandbox": "/run/netns/cni-1"}]},
}  # fmt: skip


def write(path: Path, content: object) -> Path:
    path.write_bytes(json.dumps(content))
    return path


def test_a_note_tells_pod_sandbox_and_name_space(tmp_path: Path) -> None:
    note = read_note(write(tmp_path / "skerry-x-eth0", _NOTE))
    assert note is not None
    assert (note.sandbox, note.network, note.name_space) == (_SANDBOX, "skerry", "/run/netns/cni-1")
    assert ("K8S_POD_UID", _UID) in note.arguments


def test_other_files_are_no_notes(tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(b'{"containerId": "a')
    assert read_note(tmp_path / "torn") is None and read_note(tmp_path / "absent") is None
    for number, content in enumerate(({}, [], "x", {**_NOTE, "cniArgs": 7}, {**_NOTE, "result": {"interfaces": 7}})):
        assert read_note(write(tmp_path / str(number), content)) is None


def test_plugins_are_asked_in_reverse_with_what_they_were_given(tmp_path: Path) -> None:
    note = read_note(write(tmp_path / "note", _NOTE))
    assert note is not None
    found = [(plugin, json.loads(text)) for plugin, text in requests(Network("eth0", _CONFIGURATION), note)]
    assert [plugin for plugin, _ in found] == ["portmap", "bridge"]
    portmap, bridge = found[0][1], found[1][1]
    assert portmap["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]} and "runtimeConfig" not in bridge
    assert {text["name"] for text in (portmap, bridge)} == {"skerry"}
    assert bridge["prevResult"] == _NOTE["result"] and bridge["cniVersion"] == "0.4.0"


def test_a_network_without_a_note_has_no_result_to_undo_from(tmp_path: Path) -> None:
    note = read_note(write(tmp_path / "note", {**_NOTE, "networkName": "cni-loopback"}))
    assert note is not None
    assert all("prevResult" not in json.loads(text) for _, text in requests(Network("eth0", _CONFIGURATION), note))


def test_the_engine_tells_networks_and_plugins() -> None:
    told = {"PluginDirs": ["/opt/cni/bin"], "Networks": [
        {"IFName": "eth0", "Config": {"Name": "skerry", "Source": json.dumps(_CONFIGURATION).decode()}}]}  # fmt: skip
    plugins, [network] = networks_of({"cniconfig": json.dumps(told).decode()})
    assert plugins == Path("/opt/cni/bin") and network == Network("eth0", _CONFIGURATION)
    assert networks_of({}) == networks_of({"cniconfig": "null"}) == networks_of({"cniconfig": "{}"}) == (Path(), [])


def _status(info: str, network: int = 0) -> dict[str, object]:
    status = {"linux": {"namespaces": {"options": {"network": network} if network else {}}}}
    return {"status": status, "info": {"info": info}}


@pytest.mark.parametrize(("answer", "expected"), [
    (_status('{"pid": 0, "cniResult": null}'), True),
    (_status('{"pid": 0, "cniResult": null}', network=2), False),  # the host's network
    (_status('{"cniResult": {"Interfaces": {"eth0": {}}}}'), False),
    (_status('{"pid": 0}'), False),  # CRI-O
    (_status("null"), False),
    (_status("no JSON"), False),
    ({"status": {}}, False),
    ({}, False),
])  # fmt: skip
def test_a_sandbox_that_the_engine_has_no_result_for(answer: dict[str, object], expected: bool) -> None:
    assert has_no_result(answer) is expected


def test_plugins_are_told_of_a_pod_what_the_engine_tells_them() -> None:
    told = arguments_of("c0de", {"namespace": "default", "name": "web", "uid": "7", "attempt": 1})
    assert dict(told) == {
        "IgnoreUnknown": "1", "K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web", "K8S_POD_UID": "7",
        "K8S_POD_INFRA_CONTAINER_ID": "c0de",
    }  # fmt: skip
