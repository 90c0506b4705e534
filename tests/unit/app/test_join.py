"""Addresses as a person types them after ``skerry join``."""

from pathlib import Path

import pytest

from skerry.app import join
from skerry.app.places import split_address
from skerry.base.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cloud.example.com", ("cloud.example.com", 10002)),
        ("cloud.example.com:443", ("cloud.example.com", 443)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 10002)),
        ("2001:db8::1", ("2001:db8::1", 10002)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text, 10002) == expected


@pytest.mark.parametrize("text", ["", ":443", "host:x", "host:0", "host:65536", "host:-1", "host:²", "[::1]x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        split_address(text, 10002)


@pytest.mark.parametrize("labels", ["foo", "a=b=c", "x/y/z=1", "site=north,UPPER CASE=1"])
def test_labels_that_a_cluster_refuses_stop_the_join(tmp_path: Path, labels: str) -> None:
    with pytest.raises(ConfigError, match="--labels"):
        join.main(
            host="127.0.0.1", token="t", node="n", runtime="process", cri_socket="", store_key="file", labels=labels,
            hubs=(), tunnels=(), data=tmp_path / "edge", config_file=None, check_only=False,
            service=False, as_json=True,
        )  # fmt: skip
    assert not (tmp_path / "edge").exists()


@pytest.mark.parametrize(("flags", "key"), [({"labels": "site=north"}, "labels"), ({"store_key": "tpm2"}, "storeKey")])
def test_what_a_file_of_the_operator_would_have_to_say_is_not_dropped(
    tmp_path: Path, flags: dict[str, str], key: str
) -> None:
    with pytest.raises(ConfigError, match="--config") as caught:
        join.main(
            **{"labels": None, "store_key": "file", **flags},
            host="127.0.0.1", token="t", node="n", runtime="process", cri_socket="", hubs=(), tunnels=(),
            data=tmp_path / "edge", config_file=tmp_path / "mine.yaml", check_only=False, service=False, as_json=True,
        )  # fmt: skip
    assert key in caught.value.hint and not (tmp_path / "edge").exists()


def test_a_file_with_a_mistake_stops_the_join_before_anything_is_done(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("apiVersion: config.skerry.dev/v1alpha1\nkind: EdgeConfig\nrunitme: cri\n")
    with pytest.raises(ConfigError, match="runitme"):
        join.main(
            host="127.0.0.1", token="t", node="n", runtime="process", cri_socket="", store_key="file", labels=None,
            hubs=(), tunnels=(), data=tmp_path / "edge", config_file=file, check_only=False,
            service=False, as_json=True,
        )  # fmt: skip
    assert not (tmp_path / "edge").exists()
