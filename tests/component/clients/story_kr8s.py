"""kr8s: discovery without aggregation, objects, patches, labels, waiting, watching. Prints what it saw."""

import asyncio
import json
import sys

import kr8s.asyncio
from kr8s.asyncio.objects import ConfigMap, Deployment, Pod


async def main() -> None:
    api = await kr8s.asyncio.api(kubeconfig=sys.argv[1])
    seen: dict[str, object] = {"whoami": await api.whoami(), "version": (await api.version())["major"]}
    seen["kinds"] = {"pods", "devicemodels"} <= {found["name"] for found in await api.api_resources()}
    conf = await ConfigMap({"metadata": {"name": "conf"}, "data": {"a": "1"}}, api=api)
    await conf.create()
    await conf.patch({"data": {"b": "2"}})
    await conf.label(tier="x")
    seen["data"] = [dict(found.data) async for found in api.get("configmaps", label_selector={"tier": "x"})]
    pod = await Pod({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}, api=api)
    await pod.create()
    seen["pod"] = [await pod.exists(), pod.status.phase]
    async for event, found in api.watch("pods"):
        seen["watched"] = [event, found.name]
        break
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    web = await Deployment({"metadata": {"name": "web"}, "spec": spec}, api=api)
    await web.create()
    await web.patch({"spec": {"replicas": 2}})
    await web.refresh()
    seen["replicas"] = web.replicas
    await conf.delete()
    seen["gone"] = not await conf.exists()
    sys.stdout.write(json.dumps(seen))


asyncio.run(main())
