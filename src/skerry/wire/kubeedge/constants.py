"""Upstream's literals of the cloud-edge link, each with its source place in kubeedge v1.23.

Only names that cross the wire; words that Skerry adds are in the last block. No logic.
"""

from __future__ import annotations

# Sources, cloud to edge: pkg/common/constants, cloud/pkg/common/modules/modules.go
SOURCE_EDGE_CONTROLLER = "edgecontroller"
SOURCE_DEVICE_CONTROLLER = "devicecontroller"
SOURCE_DYNAMIC_CONTROLLER = "dynamiccontroller"
SOURCE_POLICY_CONTROLLER = "policycontroller"
SOURCE_CLOUD_HUB = "cloudhub"

# Sources, edge to cloud: edge/pkg/common/modules/modules.go, edge/pkg/edgehub/process.go
SOURCE_EDGED = "edged"
SOURCE_META_MANAGER = "metamanager"
SOURCE_META_SERVER = "metaserver"
SOURCE_TWIN = "twin"
SOURCE_WEBSOCKET = "websocket"

ACKED_UPDATE_SOURCES = frozenset(
    {SOURCE_EDGE_CONTROLLER, SOURCE_DYNAMIC_CONTROLLER, SOURCE_DEVICE_CONTROLLER, SOURCE_POLICY_CONTROLLER}
)
"""A Go edge never acknowledges an update from another source: edge/pkg/metamanager/process.go:processUpdate."""

# Groups: edge/pkg/common/message/types.go, cloud/pkg/common/modules/modules.go
GROUP_RESOURCE = "resource"
GROUP_META = "meta"
GROUP_TWIN = "twin"
GROUP_FUNC = "func"
GROUP_USER = "user"
GROUP_HUB = "hub"
GROUP_DYNAMIC = "dynamiccontroller"

ANSWER_GROUPS = frozenset({GROUP_RESOURCE, GROUP_FUNC, GROUP_USER})
"""In these, a frame with a parent goes to the waiting request: edge/pkg/edgehub/messagehandler/handler_meta.go."""

# Operations: staging/src/github.com/kubeedge/beehive/pkg/core/model/message.go
OP_INSERT = "insert"
OP_UPDATE = "update"
OP_DELETE = "delete"
OP_QUERY = "query"
OP_PATCH = "patch"
OP_RESPONSE = "response"
OP_ERROR = "error"
OP_UPLOAD = "upload"
OP_KEEPALIVE = "keepalive"
OP_GET = "get"

CONTROL_OPERATIONS = frozenset({"config", "ping", "pong"})
"""Swallowed by viaduct and answered with the content ``ack``: pkg/viaduct/pkg/conn/ws.go:filterControlMessage."""

DELIVERY_OPERATIONS = frozenset({OP_INSERT, OP_UPDATE, OP_DELETE})

# Contents: edge/pkg/edgehub/process.go:keepalive, edge/pkg/metamanager/process.go, viaduct conn/ws.go
CONTENT_OK = "OK"
CONTENT_PING = "ping"
CONTENT_CONTROL_ACK = "ack"

# Resources with a fixed name
RESOURCE_KEEPALIVE = "node"  # edge/pkg/edgehub/process.go:keepalive
RESOURCE_CLUSTER_CA = "k8s/ca.crt"  # cloud/pkg/cloudhub/dispatcher/message_dispatcher.go
RESOURCE_WATCH_SYNC = "watchapp/sync"  # pkg/metaserver/application.go
RESOURCE_APPLICATION = "null"  # edge/pkg/metamanager/metaserver: route of an Application

# Resource types: staging/src/github.com/kubeedge/beehive/pkg/core/model/message.go, common/constants
TYPE_NODE = "node"
TYPE_NODE_STATUS = "nodestatus"
TYPE_NODE_PATCH = "nodepatch"
TYPE_POD = "pod"
TYPE_POD_STATUS = "podstatus"
TYPE_POD_PATCH = "podpatch"
TYPE_CONFIGMAP = "configmap"
TYPE_SECRET = "secret"
TYPE_TOKEN = "serviceaccounttoken"
TYPE_LEASE = "lease"
TYPE_EVENT = "event"
TYPE_CSR = "certificatesigningrequest"
TYPE_PV = "persistentvolume"
TYPE_PVC = "persistentvolumeclaim"
TYPE_VOLUME_ATTACHMENT = "volumeattachment"
TYPE_DEVICE = "device"
TYPE_JOBS = "operations.kubeedge.io"

ACKED_ANSWER_TYPES = frozenset({TYPE_CONFIGMAP, TYPE_SECRET, TYPE_PV, TYPE_PVC, TYPE_VOLUME_ATTACHMENT})
"""Answers of these types are sent again until acknowledged: cloud/pkg/cloudhub/dispatcher:noAckRequired."""

LABEL_EDGE = "node-role.kubernetes.io/edge"  # common/constants/default.go:EdgeNodeRoleKey

NO_NAMESPACE = "null"  # cloud/pkg/common/messagelayer/util.go: namespace of cluster-scoped objects

# Handshake: edge/pkg/edgehub/config/config.go, pkg/viaduct/pkg/client/ws.go:Connect
HEADER_NODE_ID = "node_id"
HEADER_PROJECT_ID = "project_id"
HEADER_CONNECTION_USE = "ConnectionUse"
CONNECTION_USE_MESSAGES = "msg"
PROJECT_ID = "e632aba927ea4ac2b575ec1603d56f10"

# Periods in seconds: edge/pkg/edgehub/config (heartbeat), cloud/pkg/cloudhub/config (keepaliveInterval)
KEEPALIVE_EVERY_S = 15.0
KEEPALIVE_LIMIT_S = 30.0

# Certificates: pkg/security/certs, cloud/pkg/cloudhub/servers/httpserver, edge/pkg/edgehub/certificate
HEADER_NODE_NAME = "NodeName"
HEADER_USAGES = "ExtKeyUsages"
CERT_ORGANIZATION = "system:nodes"
CERT_NAME_PREFIX = "system:node:"
CA_NAME = "KubeEdge"
NAMESPACE = "kubeedge"
SECRET_CA = "casecret"
SECRET_CA_CERT = "cadata"
SECRET_CA_KEY = "cakeydata"
SECRET_SERVER = "cloudcoresecret"
SECRET_SERVER_CERT = "cloudcoredata"
SECRET_SERVER_KEY = "cloudcorekeydata"

# Ports: staging/src/github.com/kubeedge/api/apis/common/constants/default.go
PORT_HUB = 10000
PORT_JOIN = 10002
PORT_KUBELET = 10003
PORT_TUNNEL = 10004

# Ours: ignored by a Go peer, named by a Skerry peer in the handshake
HEADER_SKERRY = "Skerry-Version"
HEADER_SKERRY_FEATURES = "Skerry-Features"
RESOURCE_ACKS = "skerry/acks"  # several acknowledgements in one message
RESOURCE_CLOUD = "skerry/cloud"  # the cloud's addresses and authorities, to Skerry agents only
HEADER_STORE = "Skerry-Store"
"""``<cluster uid>/<generation of its store>``: in the request what the edge's store belongs to (or ``-``), and the
promise of a ``RESOURCE_HOLDINGS`` message, for which a cloud that misses it asks; in the answer what this cloud is."""
RESOURCE_HOLDINGS = "skerry/holdings"
OP_REPORT = "report"
TYPE_RUNTIMECLASS = "runtimeclass"  # query, answered with the RuntimeClass; a Go cloud does not know it


def events_path(node: str, *, project: str = PROJECT_ID) -> str:
    """Path of the upgrade request; the server matches any.

    Source: edge/pkg/edgehub/clients/wsclient/websocket.go.
    """
    return f"/{project}/{node}/events"
