"""What the agent owes a pod, on a real, private containerd."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk, deleted, pod
from tests.parts import BUSYBOX_IMAGE, OTHER_HANDLER, Containerd

from skerry.edge.pods.dns import NodeDns, Resolver
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.ports import RUNTIME_HANDLER
from skerry.testing.contracts.pod_runtime import end_pods
from skerry.wire.kubelet import crilog

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]

DNS = NodeDns(Resolver(["192.0.2.53"], ["site.example"]), ["169.254.96.16"])


@pytest.fixture
async def desk(tmp_path: Path, containerd: Containerd) -> AsyncIterator[Desk]:
    client = CriClient(containerd.socket)
    runtime = CriRuntime(client, node_uid=str(uuid.uuid4()), machine_memory_bytes=1 << 33, list_interval_s=0.2)
    desk = Desk(tmp_path / "edge", runtime, CriImages(client), dns=DNS, measure_s=0.5)
    await desk.roster.start()
    yield desk
    await desk.roster.aclose()
    try:
        await end_pods(runtime)
    finally:
        await desk.close()


def wanted(script: str, *, name: str = "web", uid: str = "", **spec: Any) -> dict[str, Any]:
    container = {"image": BUSYBOX_IMAGE, "imagePullPolicy": "Never", **spec.pop("container", {})}
    found = pod(script, name=name, uid=uid or str(uuid.uuid4()), container=container, **spec)
    for extra in found["spec"].get("initContainers", []):
        extra.setdefault("image", BUSYBOX_IMAGE)
    return found


async def put(desk: Desk, found: dict[str, Any]) -> None:
    await desk.objects.put(f"default/pod/{found['metadata']['name']}", found)


async def output(desk: Desk, found: dict[str, Any], *, container: str = "app") -> list[str]:
    """What a pod that ends by itself says."""
    name = str(found["metadata"]["name"])
    await put(desk, found)
    await desk.until(lambda: desk.status(name).get("phase") in ("Succeeded", "Failed"))
    place = await desk.roster.container_log("default", name, container, previous=False)
    lines = place.path.read_bytes().splitlines(keepends=True)
    return [crilog.decode(line).content.decode() for line in lines]


async def facts(desk: Desk, commands: dict[str, str], **spec: Any) -> dict[str, str]:
    """What each of several commands says in one pod."""
    script = "; ".join(f"echo {key}=$({command})" for key, command in commands.items())
    said = await output(desk, wanted(script, restartPolicy="Never", **spec))
    return dict(line.partition("=")[::2] for line in said)


async def test_probes_of_every_network_kind(desk: Desk) -> None:
    script = "echo ok > /tmp/index.html; httpd -p 8080 -h /tmp; echo served; sleep 300"
    container = {
        "ports": [{"name": "web", "containerPort": 8080}],
        "startupProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": "web"}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["cat", "/tmp/index.html"]}, "periodSeconds": 1, "failureThreshold": 1},
    }
    await put(desk, wanted(script, container=container, terminationGracePeriodSeconds=1))
    await desk.until(lambda: desk.status().get("containerStatuses", [{}])[0].get("ready"))
    [running] = (await desk.runtime.observe()).values()
    command = ["busybox", "rm", "/tmp/index.html"]
    assert await desk.runtime.exec_sync(running.containers[0].id, command, timeout_s=10) == (0, b"")
    await desk.until(lambda: desk.status()["containerStatuses"][0]["restartCount"] == 1)
    assert "Unhealthy" in desk.events() and "Killing" in desk.events()


async def test_hooks_and_sidecars_in_their_order(desk: Desk, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    mount = {"volumeMounts": [{"name": "s", "mountPath": "/s"}]}
    trap = "trap 'echo {0} ended >> /s/log; exit 0' TERM; echo {0} began >> /s/log; sleep 300 & wait"
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo hello >> /s/log"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo bye >> /s/log"]}},
    }

    def side(name: str) -> dict[str, Any]:
        probe = {"exec": {"command": ["sh", "-c", f"cat /s/log | busybox grep -q '{name} began' || cat /s/log"]}}
        command = ["/bin/sh", "-c", trap.format(name)]
        return {"name": name, "command": command, "restartPolicy": "Always", "startupProbe": probe, **mount}

    init = {"name": "init", "command": ["/bin/sh", "-c", "echo init >> /s/log"], **mount}
    found = wanted(
        trap.format("app"), container={"lifecycle": hooks, **mount}, initContainers=[side("one"), init, side("two")],
        volumes=[{"name": "s", "hostPath": {"path": str(shared), "type": "Directory"}}],
    )  # fmt: skip
    await put(desk, found)
    await desk.until(lambda: desk.status().get("containerStatuses", [{}])[0].get("ready"))
    await desk.until(lambda: "hello" in (shared / "log").read_text() and "app began" in (shared / "log").read_text())
    await put(desk, deleted(found, grace_s=20))
    await desk.until(desk.asked_to_delete)
    lines = (shared / "log").read_text().splitlines()
    assert lines[:3] == ["one began", "init", "two began"] and set(lines[3:5]) == {"app began", "hello"}
    assert lines[5:] == ["bye", "app ended", "two ended", "one ended"]
    assert desk.status()["phase"] == "Succeeded"


async def test_last_words_and_memory(desk: Desk) -> None:
    script = "echo because > /dev/termination-log; exit 5"
    await put(desk, wanted(script, restartPolicy="Never"))
    await desk.until(lambda: desk.status().get("phase") == "Failed")
    ended = desk.state()["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (5, "Error", "because\n")
    greedy = {"resources": {"limits": {"memory": "12Mi"}}}
    script = "x=$(dd if=/dev/zero bs=1M count=64 | busybox tr '\\0' a); echo $x | head -c 1"
    await put(desk, wanted(script, name="greedy", restartPolicy="Never", container=greedy))
    await desk.until(lambda: desk.status("greedy").get("phase") in ("Failed", "Succeeded"))
    assert desk.state("greedy")["terminated"]["reason"] == "OOMKilled"


async def test_environment_names_and_resolver(desk: Desk) -> None:
    config = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v", "a=b": "no"}}
    await desk.objects.put("default/configmap/c", config)
    service = {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 5432}]},
    }
    await desk.objects.put("default/service/db", service)
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BOTH", "value": "$(POD)-$(X_k)-$(DB_SERVICE_HOST)-$$(POD)-$(NONE)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
    ]
    resources = {"limits": {"cpu": "250m"}, "requests": {"memory": "3Mi"}}
    commands = {
        "both": "echo $BOTH", "numbers": "echo $CPU $MEM", "ip": "echo $IP", "host": "hostname",
        "hosts": "cat /etc/hosts | busybox tr '\\n\\t' '; '", "dns": "cat /etc/resolv.conf | busybox tr '\\n' ';'",
    }  # fmt: skip
    found = await facts(
        desk, commands, hostname="front", subdomain="shop", setHostnameAsFQDN=True, dnsPolicy="ClusterFirst",
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["gate"]}], container={
            "env": env, "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}], "resources": resources,
        },
    )  # fmt: skip
    no_service = "$(DB_SERVICE_HOST)"  # its address would answer nobody on an edge
    assert found["both"] == f"web-v-{no_service}-$(POD)-$(NONE)" and found["numbers"] == "250 3"
    assert found["host"] == "front.shop.default.svc.cluster.local"
    assert f"{found['ip']} front.shop.default.svc.cluster.local front;" in found["hosts"]
    assert "192.0.2.7 gate;" in found["hosts"]
    assert "nameserver 169.254.96.16;" in found["dns"] and "options ndots:5;" in found["dns"]
    assert "search default.svc.cluster.local svc.cluster.local cluster.local site.example;" in found["dns"]


async def test_security_context(desk: Desk) -> None:
    commands = {
        "user": "id -u", "group": "id -g", "groups": "id -G",
        "caps": "cat /proc/self/status | head -60 | busybox tr '\\n\\t' ';:'",
        "owner": "ls -ldn /v | busybox tr -s ' ' ,", "root": "echo x 2>/dev/null > /x || echo refused",
        "sysctl": "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    }  # fmt: skip
    own = {
        "runAsGroup": 2000, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    whole = {
        "runAsUser": 1000, "runAsNonRoot": True, "fsGroup": 3000, "supplementalGroups": [4000],
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
    }  # fmt: skip
    found = await facts(
        desk, commands, container={"securityContext": own, "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        securityContext=whole, volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    assert (found["user"], found["group"], set(found["groups"].split())) == ("1000", "2000", {"2000", "3000", "4000"})
    assert "CapBnd::0000000000000000;" in found["caps"] or "CapBnd:0000000000000000" in found["caps"].replace("::", ":")
    assert "NoNewPrivs:1" in found["caps"].replace("::", ":") and "Seccomp:2" in found["caps"].replace("::", ":")
    assert found["owner"].startswith("drwxrwsrwx") and ",3000," in found["owner"]
    assert found["root"] == "refused" and found["sysctl"] == "80"


async def test_root_is_refused_where_it_must_not_be(desk: Desk) -> None:
    await put(desk, wanted("sleep 300", securityContext={"runAsNonRoot": True}))
    waiting = await desk.until(lambda: desk.state().get("waiting", {}).get("message") and desk.state()["waiting"])
    assert waiting["reason"] == "CreateContainerConfigError" and "runAsNonRoot" in waiting["message"]


async def test_host_namespaces_and_privilege(desk: Desk) -> None:
    commands = {name: f"ls -l /proc/self/ns/{name} | busybox tr -s ' ' ," for name in ("net", "ipc")}
    plain = await facts(desk, commands)
    host = await facts(
        desk, commands | {"pid": "cat /proc/1/comm"}, name="host", hostNetwork=True, hostIPC=True, hostPID=True,
        container={"securityContext": {"privileged": True}},
    )  # fmt: skip
    for name in ("net", "ipc"):
        own = os.readlink(f"/proc/self/ns/{name}")
        assert host[name].endswith(own) and not plain[name].endswith(own), name
    assert host["pid"] == Path("/proc/1/comm").read_text().strip()
    assert desk.status("host")["hostIP"] == "192.0.2.1"


async def test_shared_processes_and_a_guest(desk: Desk) -> None:
    found = wanted("exec sleep 4321", shareProcessNamespace=True)
    found["spec"]["containers"].append(
        {"name": "second", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", "ps; sleep 300"]}
    )
    await put(desk, found)
    await desk.until(lambda: all(c["ready"] for c in desk.status().get("containerStatuses", [{"ready": False}])))

    async def shown(container: str) -> str:
        place = await desk.roster.container_log("default", "web", container, previous=False)
        return await desk.until(lambda: place.path.exists() and place.path.read_text())

    assert "sleep 4321" in await shown("second")
    alone = wanted("exec sleep 9876", name="alone")
    await put(desk, alone)
    await desk.until(lambda: "running" in desk.state("alone"))
    guest = {
        "name": "debug", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", "ps; exit 3"],
        "targetContainerName": "app",
    }  # fmt: skip
    metadata = alone["metadata"] | {"resourceVersion": "2"}
    await put(desk, alone | {"metadata": metadata, "spec": alone["spec"] | {"ephemeralContainers": [guest]}})
    ended = await desk.until(
        lambda: (desk.status("alone").get("ephemeralContainerStatuses") or [{"state": {}}])[0]["state"].get(
            "terminated"
        )
    )
    assert ended["exitCode"] == 3 and desk.status("alone")["phase"] == "Running"
    place = await desk.roster.container_log("default", "alone", "debug", previous=False)
    assert "sleep 9876" in place.path.read_text()


async def test_volumes_of_every_kind(desk: Desk, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    await desk.objects.put("default/configmap/c", {"kind": "ConfigMap", "data": {"word": "one", "other": "x"}})
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "data": {"p": "aHVzaA=="}}
    await desk.objects.put("default/secret/s", secret)
    claim = {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "pv-1"}}
    await desk.objects.put("default/persistentvolumeclaim/data", claim)
    place = {"hostPath": {"path": str(disk), "type": "DirectoryOrCreate"}}
    await desk.objects.put("default/persistentvolume/pv-1", {"metadata": {"name": "pv-1"}, "spec": place})
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "word", "path": "deep/word", "mode": 0o400}]}},
        {"name": "all", "projected": {"sources": [
            {"secret": {"name": "s"}},
            {"serviceAccountToken": {"path": "token"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "scratch", "emptyDir": {}},
    ]  # fmt: skip
    mounts = [
        {"name": "memory", "mountPath": "/memory"}, {"name": "config", "mountPath": "/config"},
        {"name": "all", "mountPath": "/all"}, {"name": "data", "mountPath": "/data"},
        {"name": "config", "mountPath": "/one/word", "subPath": "deep/word"},
        {"name": "scratch", "mountPath": "/sub", "subPathExpr": "of-$(POD)"},
    ]  # fmt: skip
    commands = {
        "memory": "dd if=/dev/zero of=/memory/f bs=64k count=32 2>/dev/null || echo full",
        "config": "cat /config/deep/word",
        "mode": "ls -lnL /config/deep/word | head -c 10", "secret": "cat /all/p", "token": "cat /all/token",
        "labels": "cat /all/labels", "sub": "cat /one/word", "write": "echo x 2>/dev/null > /config/no || echo refused",
        "data": "echo kept > /data/file; echo ok", "expr": "echo y > /sub/z; ls /sub",
    }  # fmt: skip
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    found = wanted("", restartPolicy="Never", container={"volumeMounts": mounts, "env": env}, volumes=volumes)
    found["metadata"]["labels"] = {"app": "web"}
    script = "; ".join(f"echo {key}=$({command})" for key, command in commands.items())
    found["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", script]
    said = dict(line.partition("=")[::2] for line in await output(desk, found))
    assert said == {
        "memory": "full", "config": "one", "mode": "-r--------", "secret": "hush", "token": "token-of-default-default",
        "labels": 'app="web"', "sub": "one", "write": "refused", "data": "ok", "expr": "z",
    }  # fmt: skip
    assert (disk / "file").read_text() == "kept\n"
    await put(desk, deleted(found))
    await desk.until(desk.asked_to_delete)
    await desk.objects.delete("default/pod/web")
    await desk.until(lambda: not desk.roster.pods())
    assert not list((desk.directory / "pods").iterdir()) and (disk / "file").exists()
    assert str(desk.directory) not in Path("/proc/self/mountinfo").read_text()


async def test_a_config_and_labels_change_while_the_pod_runs(desk: Desk) -> None:
    config = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"word": "one"}}
    await desk.objects.put("default/configmap/c", config)
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "l", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}},
    ]
    mounts = [{"name": "c", "mountPath": "/c"}, {"name": "l", "mountPath": "/l"}]
    found = wanted(
        "while true; do echo $(cat /c/word) $(cat /l/l); sleep 0.1; done",
        volumes=volumes,
        container={"volumeMounts": mounts},
    )
    found["metadata"]["labels"] = {"app": "a"}
    await put(desk, found)
    await desk.until(lambda: "running" in desk.state())
    place = await desk.roster.container_log("default", "web", "app", previous=False)
    await desk.until(lambda: place.path.exists() and "F one a\n" in place.path.read_text())
    await desk.objects.put("default/configmap/c", config | {"data": {"word": "two"}})
    await desk.until(lambda: "F two a\n" in place.path.read_text())
    metadata = found["metadata"] | {"resourceVersion": "2", "labels": {"app": "b"}}
    await put(desk, found | {"metadata": metadata})
    await desk.until(lambda: "F two b\n" in place.path.read_text())
    assert desk.status()["containerStatuses"][0]["restartCount"] == 0


async def test_an_emptydir_over_its_limit_ends_the_pod(desk: Desk) -> None:
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    script = "dd if=/dev/zero of=/v/f bs=1M count=3; sleep 300"
    await put(
        desk, wanted(script, volumes=volumes, container={"volumeMounts": mounts}, terminationGracePeriodSeconds=1)
    )
    await desk.until(lambda: "running" in desk.state())
    await desk.until(lambda: desk.status().get("phase") == "Failed")
    assert desk.status()["reason"] == "Evicted" and 'EmptyDir volume "v"' in desk.status()["message"]


async def handler_of(desk: Desk, containerd: Containerd) -> str:
    """The handler that runs the only sandbox of the desk, by the engine's word."""
    [seen] = (await desk.runtime.observe()).values()
    client = CriClient(containerd.socket)
    try:
        answer = await client.call("PodSandboxStatus", {"pod_sandbox_id": seen.sandboxes[-1].id})
    finally:
        await client.aclose()
    return str(answer["status"].get("runtime_handler", ""))


async def test_a_pod_runs_with_the_handler_of_its_runtime_class(desk: Desk, containerd: Containerd) -> None:
    found = wanted("sleep 300", runtimeClassName="strict", terminationGracePeriodSeconds=1)
    found["metadata"]["annotations"] = {RUNTIME_HANDLER: "of-the-pod"}
    await put(desk, found)
    await desk.until(lambda: "FailedCreatePodSandBox" in desk.events())
    messages = [e.envelope.content["message"] for e in desk.outbox.entries() if "/event/" in e.key]
    assert any('RuntimeClass "strict" not found' in message for message in messages), messages
    assert desk.status()["phase"] == "Pending"
    strict = {"metadata": {"name": "strict", "uid": "c"}, "handler": OTHER_HANDLER}
    await desk.objects.put("null/runtimeclass/strict", strict)
    await desk.until(lambda: "running" in desk.state())
    assert await handler_of(desk, containerd) == OTHER_HANDLER


async def test_a_runtime_class_that_the_engine_does_not_have_is_named(desk: Desk) -> None:
    await desk.objects.put("null/runtimeclass/vm", {"metadata": {"name": "vm", "uid": "c"}, "handler": "kata"})
    await put(desk, wanted("sleep 300", runtimeClassName="vm"))
    await desk.until(lambda: "FailedCreatePodSandBox" in desk.events())
    messages = [e.envelope.content["message"] for e in desk.outbox.entries() if "/event/" in e.key]
    assert any('RuntimeClass "vm": ' in m and "give the engine a handler 'kata'" in m for m in messages), messages
