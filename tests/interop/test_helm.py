"""Unmodified Helm against the embedded API server and a node with real processes: a release's whole life.

``SKERRY_HELM`` names the program, 3 or 4.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import CONFIGMAPS, DEPLOYMENTS, SECRETS, Resource
from skerry.api.status import NotFound
from skerry.base import json
from skerry.testing.site import Site, site, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

HELM = os.environ.get("SKERRY_HELM", "")
WIDGETS = Resource("shop.example", "v1", "widgets", "Widget")

CHART = {
    "Chart.yaml": "{apiVersion: v2, name: shop, version: 0.1.0, appVersion: '1'}",
    "values.yaml": "{color: blue, replicas: 1}",
    "crds/widget.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {color: {type: string}}}}}}
""",
    "templates/all.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-conf"}
data: {color: "{{ .Values.color }}"}
---
apiVersion: shop.example/v1
kind: Widget
metadata: {name: "{{ .Release.Name }}"}
spec: {color: "{{ .Values.color }}"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop, color: "{{ .Values.color }}"}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: label, command: ["/bin/sh", "-c", "sleep 600"]}]
""",
    "templates/hook.yaml": """
apiVersion: v1
kind: ConfigMap
metadata:
  name: "{{ .Release.Name }}-before"
  annotations: {"helm.sh/hook": pre-upgrade, "helm.sh/hook-delete-policy": before-hook-creation}
data: {revision: "{{ .Release.Revision }}"}
""",
}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    if not HELM:
        pytest.skip("no Helm: name the program in SKERRY_HELM")
    for name, text in CHART.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "shop"


async def helm(at: Site, home: Path, *words: str, code: int = 0) -> str:
    """Run Helm to its end; returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        HELM, *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={"KUBECONFIG": str(at.cloud.ready["kubeconfig"]), "HOME": str(home)},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == code, f"helm {' '.join(words)}: {output.decode()}"
    return output.decode()


async def color(at: Site) -> tuple[str, str, str]:
    """The color in the release's ConfigMap, custom resource and pod template."""
    conf = await at.api.get(CONFIGMAPS, "web-conf", namespace="default")
    widget = await at.api.get(WIDGETS, "web", namespace="default")
    deployment = await at.api.get(DEPLOYMENTS, "web", namespace="default")
    return conf["data"]["color"], widget["spec"]["color"], deployment["spec"]["template"]["metadata"]["labels"]["color"]


async def test_a_release_is_installed_upgraded_rolled_back_and_removed(tmp_path: Path, chart: Path) -> None:
    async with site(tmp_path / "site", runtime="process") as at:
        await helm(at, tmp_path, "install", "web", str(chart), "--wait", "--timeout", "90s")
        assert await color(at) == ("blue", "blue", "blue")
        deployment = await at.api.get(DEPLOYMENTS, "web", namespace="default")
        assert deployment["status"]["readyReplicas"] == 1
        await helm(
            at, tmp_path, "upgrade", "web", str(chart), "--set", "color=red,replicas=2", "--wait", "--timeout", "90s"
        )
        assert await color(at) == ("red", "red", "red")
        assert (await at.api.get(DEPLOYMENTS, "web", namespace="default"))["status"]["readyReplicas"] == 2
        assert (await at.api.get(CONFIGMAPS, "web-before", namespace="default"))["data"] == {"revision": "2"}
        await helm(at, tmp_path, "rollback", "web", "1", "--wait", "--timeout", "90s")
        assert await color(at) == ("blue", "blue", "blue")
        history: list[dict[str, Any]] = json.loads(await helm(at, tmp_path, "history", "web", "-o", "json"))
        assert [(item["revision"], item["status"]) for item in history] == [
            (1, "superseded"), (2, "superseded"), (3, "deployed"),
        ]  # fmt: skip
        assert 'color: "blue"' in await helm(at, tmp_path, "get", "manifest", "web")
        failed = await helm(at, tmp_path, "upgrade", "web", str(chart), "--set", "replicas=-1", code=1)
        assert "must be greater than or equal to 0" in failed
        await helm(at, tmp_path, "uninstall", "web", "--wait", "--timeout", "90s")
        for resource, name in ((CONFIGMAPS, "web-conf"), (WIDGETS, "web"), (DEPLOYMENTS, "web")):
            with pytest.raises(NotFound):
                await at.api.get(resource, name, namespace="default")
        await until(at.no_pods, within_s=60)
        kept = (await at.api.list(SECRETS, namespace="default", label_selector="owner=helm")).items
        assert kept == []
