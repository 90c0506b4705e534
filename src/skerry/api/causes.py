"""Causes of trouble with stable codes: what ``skerry doctor`` and ``skerry why`` can say.

A code never changes its meaning and is never used again for another one: people search for it and scripts match it.
Each part of the product adds rows here; each row has a test that injects the fault, and one that the healthy case
does not raise it.
"""

from __future__ import annotations

from typing import Literal

from skerry.base.values import Struct, field

Severity = Literal["broken", "risk"]


class Cause(Struct, frozen=True):
    """One row of the table.

    Args:
        code: ``SK-`` and an area letter (C cloud, D device, E edge machine, L link, N node, P pod) and a number.
        title: what is wrong, without names.
        remedy: what a person does about it.
        severity: broken now, or a risk.
    """

    code: str
    title: str
    remedy: str
    severity: Severity = "broken"


class Finding(Struct, frozen=True):
    """A cause that was found, with the object it concerns and the evidence."""

    cause: Cause
    subject: str
    evidence: str
    details: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The form of ``-o json``."""
        return {
            "code": self.cause.code, "severity": self.cause.severity, "subject": self.subject,
            "title": self.cause.title, "evidence": self.evidence, "remedy": self.cause.remedy,
        }  # fmt: skip


_ROWS = (
    Cause("SK-C001", "no cloud runs here", "start it with `skerry cloud run` or `skerry up`"),
    Cause("SK-C002", "the cloud process does not answer", "look at its log; restart it: state is on disk, pods go on"),
    Cause("SK-E001", "no edge agent runs here", "start it with `skerry edge run`; pods keep running meanwhile"),
    Cause("SK-E002", "this machine has not joined a cloud", "on the cloud: `skerry token create --node NAME`, then run the printed line here"),
    Cause("SK-E003", "no container engine, pods run as host processes", "install containerd and join again with --runtime cri, if you want containers", "risk"),
    Cause("SK-E004", "the container engine does not answer on its socket", "start it (`systemctl start containerd`) or name another socket in criSocket"),
    Cause("SK-E005", "the engine's CRI plugin is switched off", "remove \"cri\" from disabled_plugins in /etc/containerd/config.toml and restart containerd"),
    Cause("SK-E006", "the engine has no pod network (cni plugin not initialized)", "install the CNI plugins and put a conflist into /etc/cni/net.d; Skerry writes a default one at join"),
    Cause("SK-E007", "the engine may not lower oom_score_adj", "give the engine CAP_SYS_RESOURCE, or set restrict_oom_score_adj = true in containerd's CRI section"),
    Cause("SK-E008", "the pause image is not on this machine", "connect once to a registry, or `ctr -n k8s.io images import` the sandbox image"),
    Cause("SK-E009", "the disk is nearly full", "free space: nothing new can be stored, and the engine removes images"),
    Cause("SK-E010", "the clock is wrong", "set the clock (timedatectl set-ntp true): certificates are judged by it"),
    Cause("SK-E011", "another kubelet or edgecore runs on this machine", "stop and disable it: two agents fight over the same containers"),
    Cause("SK-L001", "the cloud's name cannot be resolved", "check DNS on this machine, or use an address"),
    Cause("SK-L002", "the cloud cannot be reached", "check the network, the address and the port; a firewall may drop it"),
    Cause("SK-L003", "the cloud refuses this node", "see the reason; a revoked or cloned node must join again with a new token"),
    Cause("SK-L004", "the certificate will expire soon", "bring the node online: it renews by itself", "risk"),
    Cause("SK-L005", "the certificate has expired or is not valid yet", "check the clock; otherwise join again with a new token"),
    Cause("SK-N001", "the node is offline", "check power and uplink; on the node run `skerry edge status`. Its pods go on by themselves"),
    Cause("SK-N002", "the node is under pressure", "see the condition; free disk, memory or processes on the node"),
    Cause("SK-N003", "two machines use this node's identity", "find the cloned disk or card; join one of them under another name"),
    Cause("SK-N004", "there is no such node", "see `kubectl get nodes`; a machine gets its Node when it has joined and its agent has run once"),
    Cause("SK-N005", "what is for the node does not reach it, though it has a link", "on the node: `skerry edge status`, free disk, and the agent's log; a slow uplink shows as a backlog that shrinks"),
    Cause("SK-P001", "no node can take the pod", "see the reasons per node; change requests, selector or tolerations, or add a node"),
    Cause("SK-P002", "the container ends again and again", "read its last words with `kubectl logs --previous`; mend command or configuration"),
    Cause("SK-P003", "the image cannot be had", "check name, registry and credentials; offline nodes need the image beforehand"),
    Cause("SK-P004", "a ConfigMap or Secret that the pod needs is missing", "create it, or mark the reference optional"),
    Cause("SK-P005", "a volume cannot be mounted", "see the message; correct the volume"),
    Cause("SK-P006", "the process runtime needs a command", "give the container a `command`; without containers an image is a label only"),
    Cause("SK-P007", "the pod's node is offline", "what is shown is the last known state; the node runs the pod by itself"),
    Cause("SK-P008", "the container was killed for its memory", "raise the memory limit, or mend the leak"),
    Cause("SK-P009", "the container is not ready", "its readiness probe fails; see the message"),
    Cause("SK-P010", "the container cannot be started", "see the message: the program must be there, and what the pod asks for allowed on this node"),
    Cause("SK-P011", "a claim that the pod needs is missing or not bound", "create the PersistentVolumeClaim; `kubectl describe pvc` says why one is not bound"),
    Cause("SK-P012", "the pod's sandbox cannot be made", "see the message; the container engine or the pod network of the node needs a look"),
    Cause("SK-P013", "the pod's node does not exist", "correct spec.nodeName, or let the machine join under that name"),
    Cause("SK-P014", "the node did not take the pod, or ended it", "see the message; a controller makes another one, a pod of your own has to be made anew when the reason is gone"),
    Cause("SK-P015", "the pod cannot be ended", "see the message; the container engine or the pod network of the node needs a look"),
    Cause("SK-D001", "the device names no node", "set spec.nodeName to the node that reaches the device"),
    Cause("SK-D002", "the device's model does not exist", "create the DeviceModel in the device's namespace"),
    Cause("SK-D003", "the device does not answer", "check its power, cable and address (protocol.configData)"),
    Cause("SK-D004", "nothing has been reported yet", "see that the node is online and knows the protocol"),
    Cause("SK-D005", "a wanted value is not in the device", "see the property's access mode and the node's log"),
    Cause("SK-D006", "the property is not in the device's model", "correct the name in spec.properties, or add it to the model"),
    Cause("SK-D007", "the device's node does not exist", "correct spec.nodeName, or let the machine join under that name"),
    Cause("SK-D008", "nothing on the node speaks the device's protocol", "start a mapper for it on the node, or correct protocol.protocolName"),
    Cause("SK-D009", "the device's node is offline", "what is shown is the last known state; the node goes on reading the device"),
)  # fmt: skip


class CauseTable:
    """All causes by code."""

    def __init__(self) -> None:
        self._by_code = {cause.code: cause for cause in _ROWS}

    def __getitem__(self, code: str) -> Cause:
        return self._by_code[code]

    def all(self) -> list[Cause]:
        """In order of their codes."""
        return sorted(self._by_code.values(), key=lambda cause: cause.code)

    def found(self, code: str, subject: str, evidence: str) -> Finding:
        """A finding of this cause."""
        return Finding(self._by_code[code], subject, evidence)
