"""Every verb of kubectl in one table: a row is an invocation, what its output must show, and its exit code.

The rows of a story run in order on one server. Neither controllers nor nodes run here: what they would write, a row
writes. Streams into containers (exec, attach, cp, port-forward) have tests of their own.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.component.kubectls import Kubectl, files, kubectl, version

from skerry.base import certificates, x509, yaml

__all__ = ["files", "kubectl", "version"]

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Row:
    """One invocation.

    Args:
        words: the command line after ``kubectl``, quoted as in a shell; ``{dir}`` is a scratch directory.
        shows: regular expressions that the output must match somewhere, each in every line mode.
        text: given to ``-f -``.
        code: exit code.
        since: the first minor of kubectl that has it.
    """

    words: str
    shows: tuple[str, ...]
    text: str = ""
    code: int = 0
    since: int = 0


def row(words: str, *shows: str, text: str = "", code: int = 0, since: int = 0) -> Row:
    return Row(words, shows, text, code, since)


async def run(kubectl: Kubectl, rows: list[Row], directory: Path) -> None:
    """Run them all, and report every row that was not as it should be."""
    wrong = []
    for each in rows:
        if int(kubectl.version.partition(".")[2]) < each.since:
            continue
        words = [word.replace("{dir}", str(directory)) for word in shlex.split(each.words)]
        process = await kubectl.start(*words)
        output, _ = await process.communicate(each.text.encode())
        written = output.decode()
        missing = [pattern for pattern in each.shows if not re.search(pattern, written, re.MULTILINE)]
        if process.returncode != each.code or missing:
            wrong.append(f"kubectl {each.words}\n  code {process.returncode}, lacks {missing}\n  {written}")
    assert not wrong, "\n".join(wrong)


def manifest(kind: str, name: str, version: str = "v1", **more: Any) -> str:
    metadata = {"name": name, **more.pop("metadata", {})}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, **more})


CONTAINER = {"name": "app", "image": "busybox:1"}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
SELECTOR = {"matchLabels": {"app": "web"}}
WEB = manifest("Deployment", "web", "apps/v1", spec={"replicas": 2, "selector": SELECTOR, "template": TEMPLATE})
POD = manifest("Pod", "p", spec={"containers": [CONTAINER]}, metadata={"labels": {"app": "web"}})
NODE = manifest("Node", "edge-1", metadata={"labels": {"kubernetes.io/hostname": "edge-1"}})
BINDING = manifest("Binding", "p", target={"kind": "Node", "name": "edge-1"})
EVENT = manifest(
    "Event",
    "p.1",
    involvedObject={"kind": "Pod", "name": "p", "namespace": "default", "apiVersion": "v1"},
    reason="Pulled",
    message="image is here",
    type="Normal",
    lastTimestamp="2026-01-01T00:00:00Z",
)
CONF = manifest("ConfigMap", "conf", data={"color": "blue"})
SECOND = manifest("ConfigMap", "second", data={"size": "1"})

READS = [
    row("create -f -", "deployment.apps/web created", text=WEB),
    row("create -f -", "pod/p created", text=POD),
    row("create -f -", "node/edge-1 created", text=NODE),
    row("create --raw /api/v1/namespaces/default/bindings -f -", "Success", text=BINDING),
    row("create -f -", "event/p.1 created", text=EVENT),
    row("create -f -", "configmap/conf created", text=CONF),
    row("create -f -", "configmap/second created", text=SECOND),
    row("create secret generic s --from-literal=password=p", "secret/s created"),
    row("create service clusterip web --tcp=80:8080", "service/web created"),
    row("create job j --image=busybox:1", "job.batch/j created"),
    row("version", r"Server Version: (v1\.\d+\.\d+|version.Info)"),
    row("cluster-info", r"is running at .*https://127\.0\.0\.1"),
    row("api-versions", r"^apps/v1$", r"^v1$", r"^devices.kubeedge.io/v1beta1$"),
    row("api-resources", r"^pods +po +v1 +true +Pod$", r"^nodes +no +v1 +false +Node$"),
    row("api-resources --verbs=list --namespaced -o name", r"^deployments\.apps$", r"^configmaps$"),
    row("get pods", r"^NAME +READY +STATUS +RESTARTS +AGE$", r"^p +0/1 +Pending +0 +\d+s$"),
    row("get pods -A --show-labels", r"^NAMESPACE +NAME", r"^default +p .*app=web"),
    row("get pods -l app=web -o name", r"\Apod/p\n\Z"),
    row("get pods -l app!=web", "No resources found in default namespace"),
    row("get pods --field-selector=spec.nodeName=edge-1 -o name", r"\Apod/p\n\Z"),
    row("get cm --chunk-size=1 -o name", r"\Aconfigmap/conf\nconfigmap/second\n\Z"),
    row("get cm conf -o yaml", r"^  color: blue$", r"^kind: ConfigMap$"),
    row("get cm conf -o json", r'"color": "blue"'),
    row("get cm conf -o custom-columns=N:.metadata.name,C:.data.color", r"^N +C$", r"^conf +blue$"),
    row("get cm conf -o jsonpath={.data.color}", r"\Ablue\Z"),
    row("get cm --sort-by=.metadata.name -o name", r"\Aconfigmap/conf\nconfigmap/second\n\Z"),
    row("get events --sort-by=.lastTimestamp", r"Normal +Pulled +pod/p +image is here"),
    row("get all", r"^pod/p ", r"^deployment.apps/web ", r"^service/web ", r"^job.batch/j "),
    row("get deploy web --subresource=scale", r"^NAME +DESIRED +AVAILABLE$|web +2 +0"),
    row("get deploy web --subresource=status -o jsonpath={.metadata.name}", r"\Aweb\Z"),
    row("get --raw /api/v1/namespaces/default/configmaps/conf", r'"color":"blue"'),
    row("get --raw /healthz", r"\Aok"),
    row("get cm/conf secret/s -o name", r"\Aconfigmap/conf\nsecret/s\n\Z"),
    row("get -f - -o name", r"\Aconfigmap/conf\n\Z", text=CONF),
    row("get cm nothing", r'\(NotFound\): configmaps "nothing" not found', code=1),
    row("get nonsense", "the server doesn't have a resource type", code=1),
    row("explain pod.spec.containers", r"KIND: +Pod", r"<\[\]Container>", "image", "/v1.36/#container-v1-core"),
    row("explain deployment --recursive", r"progressDeadlineSeconds", "/v1.36/#deployment-v1-apps"),
    row("explain device.spec", "deviceModelRef"),
    row("describe pod p", r"^Name: +p$", r"^Node: +edge-1/?$", r"^Events: "),
    row("describe node edge-1", r"^Name: +edge-1$", r"Non-terminated Pods: +\(1 in total\)"),
    row("describe deployment web", r"^Replicas: +2 desired", r"RollingUpdate"),
    row("describe service web", r"^Selector: +app=web$", r"^TargetPort: +8080/TCP$"),
    row("describe cm conf", r"^color:$", r"^blue$"),
    row("describe secret s", r"^password: +1 bytes$"),
    row("describe job j", r"^Parallelism: +1$"),
    row("describe sa default", r"^Name: +default$"),
    row("describe ns default", r"^Status: +Active$"),
    row("events", r"Normal +Pulled +Pod/p +image is here"),
    row("events --for pod/p", r"Normal +Pulled +Pod/p +image is here"),
    row("auth can-i create pods", r"^yes$"),
    row("auth can-i create pods --as=nobody", r"^no$", code=1),
    row("auth can-i --list", r"^\*\.\* +\[\] +\[\] +\[\*\]$"),
    row("auth whoami", "Username", "skerry-admin"),
    row("wait --for=jsonpath={.data.color}=blue cm/conf", r"^configmap/conf condition met$"),
    row("wait --for=create cm/conf --timeout=5s", r"^configmap/conf condition met$", since=31),
    row("wait --for=condition=Ready pod/p --timeout=1s", "timed out waiting for the condition", code=1),
    row("rollout status deploy/web --timeout=1s", "Waiting for deployment|timed out", code=1),
    row("logs p", r"^first line$"),
    row("logs -l app=web", r"^first line$"),
    row("logs p -c zz", "container zz is not valid for pod p", code=1),
    row("get pods -o wide", r"NOMINATED NODE", r" edge-1 "),
]

WRITES = [
    row("create -f -", "node/edge-1 created", text=NODE),
    row("create -f -", 'unknown field "spec.bogus"', text=WEB.replace('"replicas"', '"bogus"'), code=1),
    row("create -f -", "deployment.apps/web created", text=WEB),
    row("create -f -", r"\(AlreadyExists\)", text=WEB, code=1),
    row("create deployment d --image=busybox:1 --replicas=3", "deployment.apps/d created"),
    row("create deployment dry --image=busybox:1 --dry-run=server -o name", "deployment.apps/dry"),
    row("get deploy dry", "NotFound", code=1),
    row("create configmap c --from-literal=x=1", "configmap/c created"),
    row("create ns team", "namespace/team created"),
    row("create sa robot", "serviceaccount/robot created"),
    row("create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created"),
    row("create rolebinding rb --role=r --user=bob", "rolebinding.rbac.authorization.k8s.io/rb created"),
    row("create clusterrole cr --verb=get --resource=pods", "clusterrole.rbac.authorization.k8s.io/cr created"),
    row("create clusterrolebinding crb --clusterrole=cr --user=bob", "crb created"),
    row("create job j --image=busybox:1", "job.batch/j created"),
    row("create cronjob cj --image=busybox:1 '--schedule=*/5 * * * *'", "cronjob.batch/cj created"),
    row("create ingress i --rule=a.example/x=web:80", "ingress.networking.k8s.io/i created"),
    row("create quota q --hard=pods=10 -n team", "resourcequota/q created"),
    row("create pdb b --selector=app=web --min-available=1", "poddisruptionbudget.policy/b created"),
    row("create priorityclass high --value=10", "priorityclass.scheduling.k8s.io/high created"),
    row("create token robot", r"^[\w-]+\.[\w-]+\.[\w-]+$"),
    row("run p --image=busybox:1 --labels=app=web", "pod/p created"),
    row("expose deployment web --port=80", "service/web exposed"),
    row("autoscale deployment web --max=5 --min=1 --cpu-percent=50", "web autoscaled"),
    row("apply -f -", "configmap/conf created", text=CONF),
    row("apply -f -", "configmap/conf unchanged", text=CONF),
    row("diff -f -", r"^-  color: blue$", r"^\+  color: red$", text=CONF.replace("blue", "red"), code=1),
    row("apply --dry-run=server -f -", r"configured \(server dry run\)", text=CONF.replace("blue", "red")),
    row("apply --dry-run=client -f -", r"configured \(dry run\)", text=CONF.replace("blue", "red")),
    row("apply -f -", "configmap/conf configured", text=CONF.replace("blue", "red")),
    row("apply view-last-applied cm/conf", "color: red"),
    row("apply --server-side -f -", "serverside-applied", text=CONF.replace("blue", "green")),
    row("get cm conf -o jsonpath={.data.color}", r"\Agreen\Z"),
    row("apply -k {dir}", "configmap/kustom-.* created"),
    row("apply --prune -l prune=me -f {dir}/one.json", "configmap/one created"),
    row("apply --prune -l prune=me -f {dir}/two.json", "configmap/two created", "configmap/one pruned"),
    row("replace -f -", "configmap/conf replaced", text=CONF),
    row("replace --force -f -", "configmap/conf replaced", text=CONF),
    row("edit cm conf", "configmap/conf edited"),
    row("get cm conf -o jsonpath={.data.color}", r"\Aedited\Z"),
    row("""patch cm conf -p '{"data":{"a":"1"}}'""", "configmap/conf patched"),
    row("""patch cm conf --type=merge -p '{"data":{"a":null}}'""", "configmap/conf patched"),
    row("""patch cm conf --type=json -p '[{"op":"add","path":"/data/b","value":"2"}]'""", "patched"),
    row("""patch deploy web --subresource=status --type=merge -p '{"status":{"replicas":2}}'""", "patched"),
    row("get deploy web -o jsonpath={.status.replicas}", r"\A2\Z"),
    row("label cm conf tier=x", "configmap/conf labeled"),
    row("label cm conf tier-", "configmap/conf unlabeled"),
    row("annotate cm conf note=y", "configmap/conf annotate"),
    row("set image deploy/web app=busybox:2", "image updated"),
    row("set env deploy/web A=1", "env updated"),
    row("set resources deploy/web --limits=cpu=1", "resource requirements updated"),
    row("set serviceaccount deploy/web robot", "serviceaccount updated"),
    row("set selector svc/web app=other", "selector updated"),
    row(
        "get deploy web -o jsonpath={..containers[0].image}={..serviceAccountName}",
        r"\Abusybox:2=robot\Z",
    ),
    row("scale deploy/web --replicas=4", "deployment.apps/web scaled"),
    row("scale deploy/web --current-replicas=9 --replicas=1", "Expected replicas to be 9, was 4", code=1),
    row("get deploy web -o jsonpath={.spec.replicas}", r"\A4\Z"),
    row("rollout restart deploy/web", "deployment.apps/web restarted"),
    row("rollout pause deploy/web", "deployment.apps/web paused"),
    row("rollout resume deploy/web", "deployment.apps/web resumed"),
    row("create -f {dir}/history.json", "replicaset.apps/web-1 created", "replicaset.apps/web-2 created"),
    row("rollout history deploy/web", r"^1 +", r"^2 +"),
    row("rollout undo deploy/web --to-revision=1", "deployment.apps/web rolled back"),
    row("get deploy web -o jsonpath={.spec.template.spec.containers[0].image}", r"\Abusybox:old\Z"),
    row("taint node edge-1 a=b:NoSchedule", "node/edge-1 tainted"),
    row("taint node edge-1 a-", "node/edge-1 untainted"),
    row("cordon edge-1", "node/edge-1 cordoned"),
    row("get node edge-1", r"Unknown,SchedulingDisabled|NotReady,SchedulingDisabled|SchedulingDisabled"),
    row("uncordon edge-1", "node/edge-1 uncordoned"),
    row("drain edge-1 --force --ignore-daemonsets", "node/edge-1 drained"),
    row("create -f {dir}/csr.json", "certificatesigningrequest.certificates.k8s.io/person created"),
    row("certificate approve person", "person approved"),
    row("get csr person", r"Approved"),
    row("certificate deny person", "is already Approved", code=1),
    row("auth reconcile -f {dir}/role.json", "reconciled"),
    row("get role reconciled -o jsonpath={.rules[0].verbs[0]}", r"\Alist\Z"),
    row("debug p --image=busybox:2 --container=dbg", ""),
    row("get pod p -o jsonpath={.spec.ephemeralContainers[0].name}", r"\Adbg\Z"),
    row("delete pod p --now", 'pod "p" (force )?deleted'),
    row("delete cm conf --dry-run=server", r'configmap "conf" deleted.*\(server dry run\)'),
    row("delete cm conf", 'configmap "conf" deleted'),
    row("delete cm conf", "NotFound", code=1),
    row("delete cm conf --ignore-not-found", r"\A\Z"),
    row("delete deploy web --cascade=orphan --wait=false", 'deployment.apps "web" deleted'),
    row("delete deploy d --cascade=foreground --wait=false", 'deployment.apps "d" deleted'),
    row("delete cm -l prune=me", 'configmap "two" deleted'),
    row("delete secrets --all", "No resources found|deleted"),
    row("delete job/j cronjob/cj --wait=false", 'job.batch "j" deleted', 'cronjob.batch "cj" deleted'),
    row("wait --for=delete cm/conf --timeout=5s", ""),
]


def scratch(directory: Path) -> None:
    """Files that rows read."""
    (directory / "kustomization.yaml").write_text("configMapGenerator: [{name: kustom, literals: [a=1]}]\n")
    for name in ("one", "two"):
        text = manifest("ConfigMap", name, metadata={"labels": {"prune": "me"}}, data={})
        (directory / f"{name}.json").write_text(text)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    place = {"namespace": "default"}
    role = manifest("Role", "reconciled", "rbac.authorization.k8s.io/v1", rules=[rule], metadata=place)
    (directory / "role.json").write_text(role)
    request = base64.b64encode(certificates.to_pem("CERTIFICATE REQUEST", x509.new_csr("person")[0])).decode()
    spec = {"request": request, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
    (directory / "csr.json").write_text(
        manifest("CertificateSigningRequest", "person", "certificates.k8s.io/v1", spec=spec)
    )


def history(directory: Path, uid: str) -> None:
    """The ReplicaSets that the Deployment's controller would have made."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid, "controller": True}
    items = []
    for revision, image in (("1", "busybox:old"), ("2", "busybox:1")):
        metadata = {
            "labels": {"app": "web"},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [owner],
        }
        template = {**TEMPLATE, "spec": {"containers": [{**CONTAINER, "image": image}]}}
        spec = {"replicas": 0, "selector": SELECTOR, "template": template}
        items.append(json.loads(manifest("ReplicaSet", f"web-{revision}", "apps/v1", metadata=metadata, spec=spec)))
    (directory / "history.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


async def test_read_verbs(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.nodes.more.set()
    await run(kubectl, READS, tmp_path)


async def test_write_verbs(kubectl: Kubectl, tmp_path: Path) -> None:
    scratch(tmp_path)
    first = next(at for at, each in enumerate(WRITES) if "history.json" in each.words)
    await run(kubectl, WRITES[:first], tmp_path)
    history(tmp_path, await kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.uid}"))
    await run(kubectl, WRITES[first:], tmp_path)


async def test_the_shipped_manifests_of_the_cloud_are_taken_by_the_server(kubectl: Kubectl) -> None:
    deploy = Path(__file__).parents[2] / "deploy/static"
    await kubectl("apply", "-f", "-", text="apiVersion: v1\nkind: Namespace\nmetadata: {name: kubeedge}\n")
    for file in ("rbac.yaml", "cloud.yaml"):
        text = (deploy / file).read_text()
        said = await kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
        assert said.count("(server dry run)") == sum(1 for _ in yaml.load_all(text.encode())), said
