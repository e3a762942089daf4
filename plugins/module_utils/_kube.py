# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The Kubernetes API from the controller, by a kubeconfig."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Generator, Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._kube_api import (
    CONNECT_TIMEOUT_S,
    FIELD_MANAGER,
    KubeApi,
    KubeError,
    KubeUnreachable,
    forbidden,
    node_path,
    pod_path,
    pods_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._kubeconfig import (
    describe_source,
    load_configuration,
    open_pool,
)

__all__ = [
    "ARGUMENT_SPEC",
    "FIELD_MANAGER",
    "Kube",
    "KubeError",
    "KubeUnreachable",
    "forbidden",
    "node_path",
    "pod_path",
    "pods_path",
]

READ_TIMEOUT_S = 30.0

ARGUMENT_SPEC: dict[str, Any] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
}


class Kube(KubeApi):
    """One connection pool to one API server.

    Raises MigError where no usable configuration exists, KubeUnreachable where nobody answers, KubeError where the API
    refuses. Safe to keep open for the length of a module run: expiring tokens are refreshed by the client library.
    Threads may share one.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        super().__init__()
        self.source = describe_source(kubeconfig, context)
        self._configuration = load_configuration(kubeconfig, context)
        self.host = str(self._configuration.host).rstrip("/")
        self._pool = open_pool(self._configuration)
        self._token = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """As KubeApi says."""
        import urllib3  # a dependency of the kubernetes client, there whenever this object is

        headers = self._headers(accept)
        payload = None
        if body is not None:
            headers["Content-Type"] = content_type
            payload = json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method,
                self._url(path, query),
                body=payload,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
                # An API server that restarts refuses for a moment; three tries span about two seconds.
                retries=urllib3.Retry(total=3, redirect=0, backoff_factor=0.3, raise_on_status=False),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silence(error) from error
        if answer.status >= 300:
            raise self._refusal(method, path, answer.status, bytes(answer.data))
        return bytes(answer.data)

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": FIELD_MANAGER}
        with self._token:  # an expired token is fetched once, not by every thread
            settings = self._configuration.auth_settings()
        for setting in settings.values():
            if setting.get("in") == "header" and setting.get("value"):
                headers[setting["key"]] = setting["value"]
        return headers

    def watch(self, path: str, version: str, seconds: float, **query: Any) -> Generator[dict[str, Any], None, None]:
        """Events {type, object} of a collection after ``version``; ends after ``seconds`` of silence or a broken line.

        An event of type ERROR (version too old) means: list again.
        """
        import urllib3

        query = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": math.ceil(seconds) + 1,
        }
        try:
            answer = self._pool.request(
                "GET",
                self._url(path, query),
                headers=self._headers("application/json"),
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=max(seconds, 0.01)),
                retries=False,
                preload_content=False,
            )
        except urllib3.exceptions.ReadTimeoutError:
            return  # some servers send the headers with the first event
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silence(error) from error
        try:
            if answer.status >= 300:
                raise self._refusal("GET", path, answer.status, bytes(answer.data))
            rest = b""
            for chunk in answer.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return
        finally:
            answer.close()
