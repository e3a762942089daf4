# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A small Kubernetes API over real HTTP, enough for the modules of the controller, and a way to run a module.

What it holds and what happens to that is in kube_store; here are its answers, its credentials, and pods to be watched.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from unit.kube_store import GFD, NAMESPACE, PLUGIN, Refused, Store, node, path_of, pod

__all__ = ["GFD", "NAMESPACE", "PLUGIN", "ROOT", "TOKEN", "Api", "node", "path_of", "pod", "run_here", "run_module"]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "right"  # noqa: S105 - of the stand-in
_files = itertools.count(1)


class Api(Store, ThreadingHTTPServer):
    """The server; tests fill ``objects`` and read ``requests``."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        Store.__init__(self)
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: list[str] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.broken: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def writes(self) -> list[str]:
        """Requests that change something."""
        return [line for line in self.requests if not line.startswith("GET")]

    def kubeconfig(self, *, token: str = TOKEN, server: str | None = None) -> str:
        """Path of a kubeconfig for this server with the contexts main and other."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": server or self.url}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "lab", "user": "user"}} for name in ("main", "other")],
            "current-context": "main",
        }
        path = self.folder / f"kubeconfig-{next(_files)}"
        path.write_text(json.dumps(content))
        return str(path)


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PATCH(self) -> None:
        self._answer(lambda path, _query, body: (200, self.server.patch(path, body)))

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, make: Callable[[str, dict[str, str], dict[str, Any]], tuple[int, Any] | None]) -> None:
        """With what `make` returns, or refuses; None where it has sent its answer itself."""
        parts = urlsplit(self.path)
        body = self._body()
        try:
            self._admit(parts.path)
            answer = make(parts.path, dict(parse_qsl(parts.query)), body)
        except Refused as refused:
            answer = refused.status, refused.told
        if answer is not None:
            self._send(*answer)

    def _send(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _admit(self, path: str) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if path in self.server.broken:
            raise Refused(500, "InternalError", "etcdserver: request timed out")
        if (self.command, path) in self.server.forbidden:
            verb = {"GET": "get", "PATCH": "patch", "DELETE": "delete", "POST": "create"}[self.command]
            raise Refused(
                403,
                "Forbidden",
                f'nodes is forbidden: User "dev" cannot {verb} resource "nodes" in API group "" at the cluster scope',
            )

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        found: dict[str, Any] = json.loads(self.rfile.read(length)) if length else {}
        return found

    def _get(self, path: str, query: dict[str, str], _body: dict[str, Any]) -> tuple[int, Any] | None:
        if query.get("watch") == "true":
            self._watch(path, query)
            return None
        if path.endswith("/log"):
            text = self.server.logs.get(path.removesuffix("/log").rpartition("/")[2])
            if text is None:
                raise Refused(400, "BadRequest", "no log")
            return 200, text
        if path not in self.server.objects and path.rpartition("/")[2] in ("nodes", "pods"):
            return 200, self.server.page_of(path, query)
        return 200, self.server.get(path)

    def _watch(self, path: str, query: dict[str, str]) -> None:
        if not self.server.watching:
            raise Refused(410, "Expired", "too old resource version")
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        last = int(query["resourceVersion"])
        until = time.monotonic() + float(query["timeoutSeconds"])
        try:
            while time.monotonic() < until:
                last, events = self.server.news(path, query, last)
                for event in events:
                    data = json.dumps(event).encode() + b"\n"
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                time.sleep(0.01)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _post(self, path: str, _query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return 201, {**body, "status": {"allowed": f"{asked['verb']} {resource}" not in self.server.denied}}
        if path.endswith("/eviction"):
            self.server.evict(path.removesuffix("/eviction"), body)
            return 201, {"kind": "Status", "status": "Success"}
        self.server.create(body)
        return 201, body

    def _delete(self, path: str, _query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        self.server.remove(path, body)
        return 200, {"kind": "Status", "status": "Success"}


def run_module(
    module: str, /, *, check: bool = False, env: dict[str, str] | None = None, **params: Any
) -> dict[str, Any]:
    """Run a module of the collection as its own process, as Ansible does; its JSON answer."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_check_mode": check, "_ansible_diff": True}}
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.gpufleet.mig.plugins.modules.{module}"],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".tree"), **(env or {})},
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    answer.pop("invocation", None)
    return answer


def run_here(module: str, /, *, check: bool = False, **params: Any) -> dict[str, Any]:
    """As run_module, but in this process: importing the kubernetes client anew costs more than most tests."""
    arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": True}
    main = importlib.import_module(f"ansible_collections.gpufleet.mig.plugins.modules.{module}").main
    said, warned = io.StringIO(), []
    # Where Ansible's controller side is loaded in this process, warnings would go to the terminal instead.
    with (
        mock.patch.object(AnsibleModule, "warn", lambda _self, text, **_more: warned.append(text)),
        patch_module_args(arguments),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    answer: dict[str, Any] = {**json.loads(said.getvalue()), "warnings": warned}
    answer.pop("invocation", None)
    return answer
