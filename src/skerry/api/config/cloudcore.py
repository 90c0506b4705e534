"""KubeEdge's ``cloudcore.yaml`` (v1alpha1, v1alpha2) as input: key by key what it is with us.

Source: kubeedge staging/src/github.com/kubeedge/api/apis/componentconfig/cloudcore/v1alpha1 (v1.23).
"""

from __future__ import annotations

from typing import Any

from skerry.api.config.foreign import Rule

KIND = "CloudCore"
API_GROUP = "cloudcore.config.kubeedge.io"

_WORKERS = "no pools of workers and no channels between modules to be sized; queues are bounded per node"
_KEYS = "keys lie in the cluster"
_ALWAYS = "always there"


def _addresses(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a list is wanted")
    return [str(item) for item in value if item]


RULES = (
    Rule("apiVersion", why="checked"),
    Rule("kind", why="checked"),
    Rule("kubeAPIConfig.kubeConfig", "", to="kubeconfig"),
    Rule("kubeAPIConfig.master", "", lacks=True, why="name the server in the kubeconfig"),
    Rule("kubeAPIConfig.*", why="JSON is spoken, with back-off instead of fixed rates"),
    Rule("commonConfig.tunnelPort", 10350, why="requests reach a node through its tunnel, by name"),
    Rule("commonConfig.*", why="metrics are served beside the API, authenticated"),
    Rule("featureGates.*", why="authorization per node is always on"),
    Rule("modules.cloudHub.enable", True, why=_ALWAYS),
    Rule("modules.cloudHub.advertiseAddress", to="advertise", take=_addresses),
    Rule("modules.cloudHub.dnsNames", [""], lacks=True, why="add these names to advertise"),
    Rule("modules.cloudHub.nodeLimit", 500, why="the hub takes 10,000 nodes"),
    Rule("modules.cloudHub.tlsCAFile", "/etc/kubeedge/ca/rootCA.crt", fact="caFile"),
    Rule("modules.cloudHub.tlsCAKeyFile", "/etc/kubeedge/ca/rootCA.key", fact="caKeyFile"),
    Rule("modules.cloudHub.tlsCertFile", "/etc/kubeedge/certs/server.crt", why=_KEYS),
    Rule("modules.cloudHub.tlsPrivateKeyFile", "/etc/kubeedge/certs/server.key", why=_KEYS),
    Rule("modules.cloudHub.websocket.enable", True, why=_ALWAYS),
    Rule("modules.cloudHub.websocket.address", "0.0.0.0", to="listen"),
    Rule("modules.cloudHub.websocket.port", 10000, lacks=True, why="see ports: one base number for all servers"),
    Rule("modules.cloudHub.quic.enable", False, lacks=True, why="QUIC is not served; nodes use WebSocket"),
    Rule("modules.cloudHub.quic.*", why="QUIC is not served"),
    Rule("modules.cloudHub.https.enable", True, why=_ALWAYS),
    Rule("modules.cloudHub.https.port", 10002, lacks=True, why="see ports: one base number for all servers"),
    Rule("modules.cloudHub.https.*", why="all servers listen on one address"),
    Rule("modules.cloudHub.authorization.*", why="authorization per node is always on"),
    Rule("modules.cloudHub.unixsocket.*", why="the CSI driver's socket is not served"),
    Rule("modules.cloudHub.*", why="time limits are the hub's own"),
    Rule("modules.edgeController.enable", True, why=_ALWAYS),
    Rule("modules.edgeController.*", why=_WORKERS),
    Rule("modules.deviceController.enable", True, why=_ALWAYS),
    Rule("modules.deviceController.*", why=_WORKERS),
    Rule("modules.taskManager.enable", False, lacks=True, why="node jobs are not there yet"),
    Rule("modules.taskManager.*", why=_WORKERS),
    Rule("modules.syncController.*", why=_ALWAYS),
    Rule("modules.dynamicController.*", why=_ALWAYS),
    Rule("modules.cloudStream.enable", False, why="the tunnel is always there"),
    Rule("modules.cloudStream.tunnelPort", 10004, lacks=True, why="see ports: one base number for all servers"),
    Rule("modules.cloudStream.streamPort", 10003, lacks=True, why="port 10003 is not served yet"),
    Rule("modules.cloudStream.*", why=_KEYS),
    Rule("modules.router.enable", False, lacks=True, why="the router is not there yet"),
    Rule("modules.router.*", why="the router is not there yet"),
    Rule("modules.iptablesManager.*", why="no iptables rules are needed"),
)
