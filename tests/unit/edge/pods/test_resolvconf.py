"""Whose name servers pods get."""

from pathlib import Path

from skerry.edge.pods.dns import Resolver
from skerry.edge.pods.resolvconf import node_resolver


def test_a_stub_on_this_machine_is_no_server_for_a_pod(tmp_path: Path) -> None:
    own, behind = tmp_path / "resolv.conf", tmp_path / "behind.conf"
    own.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch site.example\n")
    assert node_resolver([own, behind]).servers == ["127.0.0.53"]  # nothing better is known
    behind.write_text("nameserver 192.0.2.53\nsearch site.example\n")
    found = node_resolver([own, behind])
    assert (found.servers, found.searches) == (["192.0.2.53"], ["site.example"])
    own.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.54\n")
    assert node_resolver([own, behind]).servers == ["127.0.0.1", "192.0.2.54"]


def test_a_network_that_comes_late_is_seen(tmp_path: Path) -> None:
    own = tmp_path / "resolv.conf"
    assert node_resolver([own]) == Resolver()
    own.write_text("nameserver 192.0.2.53\n")
    assert node_resolver([own]).servers == ["192.0.2.53"]
