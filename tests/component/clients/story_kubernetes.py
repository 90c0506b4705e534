"""The official Python client: typed API, watch, server-side apply, the dynamic client, errors. Prints what it saw."""

import json
import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

config.load_kube_config(sys.argv[1])
core, apps = client.CoreV1Api(), client.AppsV1Api()
seen: dict[str, object] = {"version": client.VersionApi().get_code().major}
meta = client.V1ObjectMeta(name="conf", labels={"app": "web"})
core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=meta, data={"a": "1"}))
core.patch_namespaced_config_map("conf", "default", {"data": {"b": "2"}})
found = core.list_namespaced_config_map("default", label_selector="app=web", limit=1)
seen["data"] = found.items[0].data
stream = watch.Watch().stream(
    core.list_namespaced_config_map, "default", resource_version=found.metadata.resource_version, timeout_seconds=10
)
core.delete_namespaced_config_map("conf", "default")
seen["watched"] = next(iter(stream))["type"]
containers = [client.V1Container(name="app", image="busybox:1")]
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=containers)
)
spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template)
apps.create_namespaced_deployment("default", client.V1Deployment(metadata=meta, spec=spec))
apps.patch_namespaced_deployment_scale("conf", "default", {"spec": {"replicas": 3}})
seen["scale"] = apps.read_namespaced_deployment_scale("conf", "default").spec.replicas
try:
    core.read_namespaced_pod("nothing", "default")
except ApiException as exc:
    seen["missing"] = [exc.status, json.loads(exc.body)["reason"]]
untyped = dynamic.DynamicClient(client.ApiClient())
maps = untyped.resources.get(api_version="v1", kind="ConfigMap")
body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"c": "3"}}
applied = maps.server_side_apply(body, namespace="default", field_manager="py", force_conflicts=True)
seen["applied"] = [applied.data.c, applied.metadata.managedFields[0].manager]
models = untyped.resources.get(api_version="devices.kubeedge.io/v1beta1", kind="DeviceModel")
model = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "m"},
    "spec": {"protocol": "modbus", "properties": [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]},
}
models.create(body=model, namespace="default")
seen["custom"] = models.get(name="m", namespace="default").spec.protocol
sys.stdout.write(json.dumps(seen))
