"""lightkube: typed and generic resources without discovery, apply with conflicts, status, watch. Prints what it saw."""

import json
import sys

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Node
from lightkube.types import PatchType

client = Client(config=KubeConfig.from_file(sys.argv[1]), namespace="default", field_manager="lk")
seen: dict[str, object] = {}
made = client.create(ConfigMap(metadata=ObjectMeta(name="conf", labels={"a": "b"}), data={"x": "1"}))
seen["managed"] = [made.metadata.managedFields[0].manager, made.metadata.managedFields[0].operation]
client.patch(ConfigMap, "conf", {"data": {"y": "2"}}, patch_type=PatchType.MERGE)
seen["listed"] = [found.data for found in client.list(ConfigMap, labels={"a": "b"})]
applied = ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="conf"), data={"x": "9"})
try:
    client.apply(applied, field_manager="other")
except ApiError as exc:
    seen["conflict"] = [exc.status.code, exc.status.details.causes[0].field]
seen["forced"] = client.apply(applied, field_manager="other", force=True).data
client.create(Node(metadata=ObjectMeta(name="n1")))
client.patch(Node.Status, "n1", {"status": {"phase": "Running"}}, patch_type=PatchType.MERGE, field_manager="lk")
seen["status"] = client.get(Node, "n1").status.phase
for event, found in client.watch(ConfigMap, resource_version=made.metadata.resourceVersion):
    seen["watched"] = [event, found.metadata.name]
    break
Model = create_namespaced_resource("devices.kubeedge.io", "v1beta1", "DeviceModel", "devicemodels")
properties = [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]
client.create(Model(metadata=ObjectMeta(name="m"), spec={"protocol": "modbus", "properties": properties}))
seen["custom"] = client.get(Model, "m").spec["protocol"]
client.delete(ConfigMap, "conf")
try:
    client.get(ConfigMap, "conf")
except ApiError as exc:
    seen["missing"] = [exc.status.code, exc.status.reason]
sys.stdout.write(json.dumps(seen))
