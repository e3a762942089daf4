# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API from a GPU host, which has Python's standard library and no kubernetes package."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube_api import CONNECT_TIMEOUT_S, KubeApi


class HostKube(KubeApi):
    """For one cluster and one user as they stand in a kubeconfig. Files are read at each start, so that
    credentials that the kubelet renews are good. No call takes longer than until `deadline` (time.monotonic)."""

    def __init__(
        self, cluster: Mapping[str, Any], user: Mapping[str, Any], source: str, folder: str, deadline: float
    ) -> None:
        super().__init__()
        self.source = source
        self.host = str(cluster["server"]).rstrip("/")
        self._deadline = deadline
        self._address = urlsplit(self.host)
        try:
            self._tls = _tls(cluster, user, Path(folder))
            self._bearer = user.get("token") or _text(user.get("tokenFile"), Path(folder)).strip()
        except (OSError, ValueError) as error:  # ssl's errors are OSErrors
            raise MigError(
                f"The credentials of {source} cannot be used ({error}): repair them or set mig_boot_guard_kubeconfig."
            ) from None

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
        """One call, tried once."""
        headers = {"Accept": accept, "User-Agent": "gpufleet-mig"}
        if self._bearer:
            headers["Authorization"] = f"Bearer {self._bearer}"
        payload = None
        if body is not None:
            headers["Content-Type"] = content_type
            payload = json.dumps(body).encode()
        connection = self._connection(min(CONNECT_TIMEOUT_S, max(self._deadline - time.monotonic(), 0.1)))
        url = self._url(path, query)[len(f"{self._address.scheme}://{self._address.netloc}") :]
        try:
            connection.request(method, url, payload, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._silence(error) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise self._refusal(method, path, answer.status, data)
        return data

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        host, port = str(self._address.hostname), self._address.port
        if self._address.scheme == "http":
            return http.client.HTTPConnection(host, port or 80, timeout=timeout)
        return http.client.HTTPSConnection(host, port or 443, timeout=timeout, context=self._tls)


def _text(name: Any, folder: Path) -> str:
    """A file that a kubeconfig names, relative to where that lies; "" for none."""
    return (folder / str(name)).read_text(encoding="utf-8") if name else ""


def _decoded(values: Mapping[str, Any], key: str) -> str | None:
    return base64.b64decode(str(values[f"{key}-data"])).decode() if values.get(f"{key}-data") else None


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _decoded(cluster, "certificate-authority") or _text(cluster.get("certificate-authority"), folder)
    context = ssl.create_default_context(cadata=authority or None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _decoded(user, "client-certificate") or _text(user.get("client-certificate"), folder)
    key = _decoded(user, "client-key") or _text(user.get("client-key"), folder)
    if certificate:
        # The library reads these only from a file: one in memory, so that no key comes to lie anywhere.
        handle = os.memfd_create("client")
        try:
            os.write(handle, f"{certificate}\n{key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)
    return context
