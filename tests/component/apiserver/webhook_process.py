"""A webhook server: a process of its own with HTTPS, for tests. Its paths say what it answers.

Run as ``python webhook_process.py CERT KEY``; it prints its port.
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import sys
import time
from typing import Any

CALLS: list[dict[str, Any]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:  # the name is the library's
        self._send(200, CALLS)

    def do_POST(self) -> None:  # the name is the library's
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        CALLS.append({"path": self.path, "host": self.headers["Host"], "body": body})
        answer = getattr(self, f"at_{path.strip('/').replace('-', '_')}")(body)
        if answer is not None:
            self._send(200, answer)

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @staticmethod
    def _review(body: dict[str, Any], **response: Any) -> dict[str, Any]:
        response = {"uid": body["request"]["uid"], "allowed": True, **response}
        return {"kind": "AdmissionReview", "apiVersion": body["apiVersion"], "response": response}

    def _patched(self, body: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        return self._review(body, patchType="JSONPatch", patch=patch)

    def at_allow(self, body: dict[str, Any]) -> Any:
        return self._review(body, warnings=["be careful"], auditAnnotations={"seen": "yes"})

    def at_deny(self, body: dict[str, Any]) -> Any:
        return self._review(body, allowed=False, status={"message": "not today", "code": 418, "reason": "Teapot"})

    def at_deny_silently(self, body: dict[str, Any]) -> Any:
        return self._review(body, allowed=False)

    def at_slow(self, body: dict[str, Any]) -> Any:
        time.sleep(3)
        return self._review(body)

    def at_broken(self, body: dict[str, Any]) -> Any:
        return {"hello": "world"}

    def at_error(self, body: dict[str, Any]) -> Any:
        self._send(500, {"oh": "no"})

    def at_label(self, body: dict[str, Any]) -> Any:
        if "labels" not in body["request"]["object"]["metadata"]:
            return self._patched(body, {"op": "add", "path": "/metadata/labels", "value": {"hook": "was-here"}})
        return self._patched(body, {"op": "add", "path": "/metadata/labels/hook", "value": "was-here"})

    def at_count(self, body: dict[str, Any]) -> Any:
        labels = body["request"]["object"]["metadata"].get("labels") or {}
        labels["count"] = str(int(labels.get("count", "0")) + 1)
        return self._patched(body, {"op": "add", "path": "/metadata/labels", "value": labels})

    def at_init_container(self, body: dict[str, Any]) -> Any:
        value = [{"name": "added", "image": "busybox"}]
        return self._patched(body, {"op": "add", "path": "/spec/initContainers", "value": value})

    def at_unknown_field(self, body: dict[str, Any]) -> Any:
        return self._patched(body, {"op": "add", "path": "/spec/nobody", "value": 1})

    def at_bad_patch(self, body: dict[str, Any]) -> Any:
        return self._patched(body, {"op": "remove", "path": "/not/there"})

    def at_convert(self, body: dict[str, Any]) -> Any:
        wanted = body["request"]["desiredAPIVersion"]
        converted = []
        for obj in body["request"]["objects"]:
            spec = obj.get("spec") or {}
            if wanted.endswith("/v2") and "hostPort" in spec:
                host, _, port = spec.pop("hostPort").partition(":")
                spec |= {"host": host, "port": port}
            elif wanted.endswith("/v1") and "host" in spec:
                spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port')}"
            converted.append({**obj, "apiVersion": wanted, "spec": spec})
        response = {"uid": body["request"]["uid"], "convertedObjects": converted, "result": {"status": "Success"}}
        return {"kind": "ConversionReview", "apiVersion": body["apiVersion"], "response": response}


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
