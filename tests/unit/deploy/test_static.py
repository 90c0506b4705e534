"""The shipped manifests say what the code says."""

from __future__ import annotations

from pathlib import Path

from skerry.api.config.cloud import DEFAULT_PORTS
from skerry.app.cloud import load_config
from skerry.base import yaml
from skerry.wire.kubeedge import constants as c

STATIC = Path(__file__).parents[3] / "deploy/static"
DOCUMENTS = {document["kind"]: document for document in yaml.load_all((STATIC / "cloud.yaml").read_bytes())}


def test_the_configuration_in_the_manifest_is_one(tmp_path: Path) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text(DOCUMENTS["ConfigMap"]["data"]["cloud.yaml"])
    config = load_config(file, {})
    assert config.advertise == ("cloud.example.com",)
    (container,) = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.data).startswith(mounts["data"])
    assert container["args"][:5] == ["skerry", "cloud", "run", "--config", f"{mounts['config']}/cloud.yaml"]


def test_ports_names_and_rights_are_those_of_the_code() -> None:
    ports = {port["name"]: port["port"] for port in DOCUMENTS["Service"]["spec"]["ports"]}
    assert ports == {name: port for name, port in DEFAULT_PORTS.items() if name != "api"}
    spec = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]
    assert {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]} == ports
    accounts = [d for d in yaml.load_all((STATIC / "rbac.yaml").read_bytes()) if d["kind"] == "ServiceAccount"]
    assert [spec["serviceAccountName"]] == [account["metadata"]["name"] for account in accounts]
    assert all(document["metadata"]["namespace"] == c.NAMESPACE for document in DOCUMENTS.values())
    assert DOCUMENTS["Service"]["spec"]["selector"] == spec_labels()


def spec_labels() -> dict[str, str]:
    labels: dict[str, str] = DOCUMENTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    return labels
