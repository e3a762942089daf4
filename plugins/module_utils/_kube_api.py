# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The verbs of the Kubernetes API, its paths, and its refusals in words, whoever carries the requests.

Objects are the API's own JSON everywhere: ``{"metadata": {...}, "spec": {...}, "status": {...}}``.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

CONNECT_TIMEOUT_S = 5.0
PAGE = 1000  # the nodes of all but the largest clusters in one answer
FIELD_MANAGER = "gpufleet.mig"

# "nodes is forbidden: User "dev" cannot list resource "nodes" in API group "" at the cluster scope"
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?P<scope> at the cluster scope| in the namespace "[^"]*")?'
)


class KubeError(MigError):
    """The API server answered with an error; ``status`` is the HTTP code, ``reason`` the API's word for it.

    ``message`` are the API's own words, ``details`` its structured part: causes, retryAfterSeconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        api_message: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, status=status, reason=reason, api_message=api_message)
        self.status = status
        self.reason = reason
        self.message = api_message
        self.details: Mapping[str, Any] = details or {}

    def cause(self, reason: str) -> str | None:
        """The words of the cause with this reason, None where the API named no such cause."""
        for cause in self.details.get("causes") or []:
            if cause.get("reason") == reason:
                return str(cause.get("message") or "")
        return None


class KubeUnreachable(MigError):
    """No answer at all: refused, timed out, name unknown, certificate not trusted."""


class KubeApi(ABC):
    """One API server: ``host`` is its URL, ``source`` in words whose credentials it is asked with."""

    host: str
    source: str

    def __init__(self) -> None:
        self._resources: dict[str, dict[str, dict[str, Any]]] = {}

    @abstractmethod
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
        """One call; ``path`` starts with /api or /apis. Returns the body of a 2xx answer."""

    def _url(self, path: str, query: Mapping[str, Any] | None) -> str:
        parameters = {key: value for key, value in (query or {}).items() if value is not None}
        return self.host + path + ("?" + urlencode(parameters) if parameters else "")

    def _silence(self, error: BaseException) -> KubeUnreachable:
        return KubeUnreachable(
            f"The Kubernetes API at {self.host} ({self.source}) does not answer: {_root_cause(error)}. "
            "Check that the cluster runs and that this machine reaches it, or set kubeconfig (mig_kubeconfig) or "
            "context (mig_kube_context) to another one, then run again.",
            host=self.host,
        )

    def _refusal(self, method: str, path: str, status: int, data: bytes) -> KubeError:
        try:
            told = json.loads(data)
        except ValueError:
            told = {}
        if not isinstance(told, dict):
            told = {}
        reason = str(told.get("reason") or "")
        message = str(told.get("message") or data[:200].decode("utf-8", "replace").strip())
        if status == 401:
            text = (
                f"The Kubernetes API at {self.host} does not accept the credentials of {self.source} (401): "
                "renew them, or set kubeconfig (mig_kubeconfig) or context (mig_kube_context) to others."
            )
        elif status == 403:
            text = forbidden(message) or f"The Kubernetes API at {self.host} forbids {method} {path}: {message}"
        else:
            text = f"The Kubernetes API at {self.host} refused {method} {path} ({status}): {message or reason}"
        details = told.get("details")
        return KubeError(
            text,
            status=status,
            reason=reason,
            api_message=message,
            details=details if isinstance(details, dict) else None,
        )

    # verbs

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """One object (or a raw list answer)."""
        answer = json.loads(self.request("GET", path, query=query))
        if not isinstance(answer, dict):
            raise MigError(f"The Kubernetes API at {self.host} answered GET {path} with something that is no object.")
        return answer

    def find(self, path: str, **query: Any) -> dict[str, Any] | None:
        """As get, but None where the object does not exist."""
        try:
            return self.get(path, **query)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All objects of a collection, page by page."""
        for page in self._pages(path, query):
            yield from page.get("items") or []

    def listing(self, path: str, **query: Any) -> tuple[list[dict[str, Any]], str]:
        """All objects of a collection and the resource version from which ``watch`` goes on."""
        found: list[dict[str, Any]] = []
        version = ""
        for page in self._pages(path, query):
            found += page.get("items") or []
            version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        return found, version

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        marker: str | None = None
        while True:
            page = self.get(path, **{**query, "limit": PAGE, "continue": marker})
            yield page
            marker = (page.get("metadata") or {}).get("continue")
            if not marker:
                return

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST to a collection or a subresource (eviction, access review)."""
        answer: dict[str, Any] = json.loads(
            self.request("POST", path, query={"fieldManager": FIELD_MANAGER}, body=body) or b"{}"
        )
        return answer

    def merge_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """RFC 7386: a key with None goes, the rest is merged.

        With ``metadata.resourceVersion`` in the body the API answers 409 where the object changed since it was read.
        """
        answer: dict[str, Any] = json.loads(
            self.request(
                "PATCH",
                path,
                query={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type="application/merge-patch+json",
            )
        )
        return answer

    def apply(self, path: str, body: Mapping[str, Any], *, dry_run: bool) -> dict[str, Any]:
        """Server-side apply, taking over fields of other managers; returns the object as it is (would be) stored."""
        answer: dict[str, Any] = json.loads(
            self.request(
                "PATCH",
                path,
                query={"fieldManager": FIELD_MANAGER, "force": "true", "dryRun": "All" if dry_run else None},
                body=body,
                content_type="application/apply-patch+yaml",
            )
        )
        return answer

    def delete(self, path: str, *, uid: str | None = None, grace_period: int | None = None) -> bool:
        """Delete that object, and only the one with this uid. False where it is gone already."""
        options: dict[str, Any] = {"preconditions": {"uid": uid}} if uid else {}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        try:
            self.request("DELETE", path, body=body)
        except KubeError as error:
            if error.status == 404 or (error.status == 409 and uid):
                return False
            raise
        return True

    def last_log_lines(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int = 5) -> list[str]:
        """The end of a container's log; [] where the kubelet has none (any more)."""
        try:
            data = self.request(
                "GET",
                pod_path(namespace, pod) + "/log",
                query={"container": container, "previous": "true" if previous else None, "tailLines": lines},
                accept="*/*",
            )
        except (KubeError, KubeUnreachable):
            # The log only adorns a message about something worse; the API server proxies it through the kubelet, which
            # may be the very thing that is down.
            return []
        return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()][-lines:]

    # discovery

    def object_path(self, api_version: str, kind: str, namespace: str | None, name: str) -> str | None:
        """Path of an object by its kind; None where the cluster does not know the kind."""
        base = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        if api_version not in self._resources:
            listing = self.find(base) or {}
            self._resources[api_version] = {
                entry["kind"]: entry for entry in listing.get("resources") or [] if "/" not in entry["name"]
            }
        entry = self._resources[api_version].get(kind)
        if entry is None:
            return None
        scope = f"/namespaces/{quote(namespace or 'default')}" if entry["namespaced"] else ""
        return f"{base}{scope}/{entry['name']}/{quote(name)}"

    def forget_kinds(self) -> None:
        """After CRDs were applied: ask the cluster again which kinds it knows."""
        self._resources.clear()


def forbidden(message: str) -> str | None:
    """The API's words for a missing permission as one sentence that says what to grant; None for other messages."""
    found = _FORBIDDEN.search(message)
    if not found:
        return None
    group = f".{found['group']}" if found["group"] else ""
    return (
        f'The Kubernetes API does not let user "{found["user"]}" {found["verb"]} '
        f"{found['resource']}{group}{found['scope'] or ''} (403): give its role that verb."
    )


def node_path(name: str) -> str:
    """API path of a node."""
    return f"/api/v1/nodes/{quote(name)}"


def pods_path(namespace: str | None) -> str:
    """API path of the pods of one namespace, or of all."""
    return f"/api/v1/namespaces/{quote(namespace)}/pods" if namespace else "/api/v1/pods"


def pod_path(namespace: str, name: str) -> str:
    """API path of a pod."""
    return f"{pods_path(namespace)}/{quote(name)}"


def _root_cause(error: BaseException) -> str:
    """What really happened below urllib3's layers, in one line."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or cause.__cause__
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = first_line(cause)
    # urllib3 puts "HTTPSConnection(host='...', port=...): " before the sentence
    text = re.sub(r"^<?[\w.]*Connection(Pool)?\(.*?\)(: |>: |> )", "", text)
    return re.sub(r"^\[Errno -?\d+\] ", "", text).rstrip(".")


def first_line(error: BaseException) -> str:
    """What an error says, without its further lines."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
