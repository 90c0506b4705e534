"""A Go cloudcore on a cluster of the test, with everything that it writes below one directory."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.interop.goedge import GoProcess, binary

from skerry.api.gvk import SECRETS
from skerry.api.status import ApiError
from skerry.base.net.listening import free_port
from skerry.kube.ports import KubeApi


class GoCloud:
    """cloudcore on free ports of 127.0.0.1.

    Args:
        directory: for configuration, certificates and logs.
        kubeconfig: of the cluster, with an administrator's rights.
        authorization: whether its hub checks what a node may do.
    """

    def __init__(self, directory: Path, *, kubeconfig: Path, authorization: bool = False) -> None:
        self.hub, self.join, self.tunnel = free_port(), free_port(), free_port()
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "cloudcore.yaml"
        file.write_text(json.dumps(self._config(directory, kubeconfig, authorization), indent=1))
        command = [str(binary("SKERRY_CLOUDCORE")), "--config", str(file), "--v=4"]
        self.process = GoProcess("cloudcore", command, directory=directory.parent / "logs")

    async def token(self, api: KubeApi) -> str:
        """Its join token, once it has made one."""
        secret = await api.get(SECRETS, "tokensecret", namespace="kubeedge")
        return base64.b64decode(secret["data"]["tokendata"]).decode()

    def _config(self, directory: Path, kubeconfig: Path, authorization: bool) -> Mapping[str, Any]:
        at = str(directory)
        return {
            "apiVersion": "cloudcore.config.kubeedge.io/v1alpha1",
            "kind": "CloudCore",
            "commonConfig": {"monitorServer": {"bindAddress": f"127.0.0.1:{free_port()}"}},
            "kubeAPIConfig": {"kubeConfig": str(kubeconfig), "contentType": "application/json"},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"],
                    "nodeLimit": 100,
                    "tlsCAFile": f"{at}/ca/rootCA.crt",
                    "tlsCAKeyFile": f"{at}/ca/rootCA.key",
                    "tlsCertFile": f"{at}/certs/server.crt",
                    "tlsPrivateKeyFile": f"{at}/certs/server.key",
                    "unixsocket": {"enable": True, "address": f"unix://{at}/cloud.sock"},
                    "websocket": {"enable": True, "address": "127.0.0.1", "port": self.hub},
                    "https": {"enable": True, "address": "127.0.0.1", "port": self.join},
                    "authorization": {"enable": authorization, "debug": False, "modes": [{"node": {"enable": True}}]},
                },
                "cloudStream": {"enable": False},
                "dynamicController": {"enable": True},
                "router": {"enable": False},
                "iptablesManager": {"enable": False},
            },
        }


async def has_token(cloud: GoCloud, api: KubeApi) -> str:
    """Why there is no token yet, in words."""
    try:
        return "" if await cloud.token(api) else "no token"
    except ApiError as exc:
        return f"no token: {exc}"
