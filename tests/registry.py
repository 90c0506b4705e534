"""A container registry on loopback: Debian's docker-registry, unpacked by ``tests.parts``. Only tests import this."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import time
from pathlib import Path

from skerry.base.net.listening import free_port
from tests.parts import fetch, image_layer

USER, PASSWORD = "node", "U*U"
_HASH = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"  # a published test vector of bcrypt


class DockerRegistry:
    """``start()``, ``push``, use ``host``, ``close()``.

    Args:
        directory: for its configuration and blobs.
        is_private: only ``USER`` with ``PASSWORD`` may read.

    Raises:
        PartMissing: no package.
    """

    def __init__(self, directory: Path, *, is_private: bool = False) -> None:
        self._part = fetch("docker-registry", "docker-registry")
        self._directory = directory
        self._is_private = is_private
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def host(self) -> str:
        """Registry part of image names."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._directory.mkdir(exist_ok=True)
        self.port = self.port or free_port()
        (self._directory / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        auth = {"htpasswd": {"realm": "test", "path": str(self._directory / "htpasswd")}} if self._is_private else {}
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "blobs")}},
            "http": {"addr": self.host},
            **({"auth": auth} if auth else {}),
        }
        (self._directory / "config.json").write_text(json.dumps(config))  # every JSON file is a YAML file
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._part.path, "serve", str(self._directory / "config.json")], stdout=log, stderr=log,
                env={**self._part.env(), "OTEL_TRACES_EXPORTER": "none"},
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("the registry does not serve")

    def stop(self) -> None:
        """Serve no more; what was pushed stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def push(self, name: str, *, busybox: bytes, random_bytes: int = 0) -> int:
        """Put ``name`` (repository:tag) there: busybox and, to make it large, random bytes. Gives the layer's size."""
        repository, _, tag = name.partition(":")
        layer = image_layer(busybox, os.urandom(random_bytes))
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        machine = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(os.uname().machine, os.uname().machine)
        config = json.dumps(
            {
                "architecture": machine,
                "os": "linux",
                "config": {"Env": ["PATH=/bin:/sbin"], "Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest]},
            }
        ).encode()
        kinds = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kinds}.manifest.v1+json",
            "config": self._blob(repository, config) | {"mediaType": f"{kinds}.config.v1+json"},
            "layers": [self._blob(repository, layer) | {"mediaType": f"{kinds}.layer.v1.tar"}],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", body, str(manifest["mediaType"]))
        return len(layer)

    def close(self) -> None:
        """End it."""
        self.stop()

    def _blob(self, repository: str, data: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        location = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", "")
        place = location.removeprefix(f"http://{self.host}")
        mark = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{mark}digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Content-Type": kind, "Authorization": f"Basic {token}"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, (answer.status, text)
        return answer.headers.get("Location") or ""


def docker_config(host: str, *, password: str = PASSWORD) -> bytes:
    """A docker ``config.json`` with the registry's user."""
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": token}}}).encode()
