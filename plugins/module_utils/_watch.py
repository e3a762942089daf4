# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A collection of the Kubernetes API that is kept up to date by a watch: waiting costs no requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError, KubeUnreachable


class Watched:
    """Objects of one collection, by uid. Empty until ``refresh`` or ``follow``."""

    def __init__(self, kube: Kube, path: str, pause: float, **query: Any) -> None:
        """``pause`` s lie between a broken line and the next try; ``query`` are the selectors."""
        self._kube = kube
        self._path = path
        self._pause = pause
        self._query = query
        self._version = ""
        self._found: dict[str, dict[str, Any]] = {}

    def refresh(self) -> None:
        """List them."""
        objects, self._version = self._kube.listing(self._path, **self._query)
        self._found = {_uid(each): each for each in objects}

    def hold(self, objects: Iterable[dict[str, Any]]) -> None:
        """What was read one by one; ``follow`` lists again."""
        self._found, self._version = {_uid(each): each for each in objects}, ""

    def all(self) -> list[dict[str, Any]]:
        """As last seen."""
        return list(self._found.values())

    def get(self, uid: str) -> dict[str, Any] | None:
        """The object with this uid, None where it is gone."""
        return self._found.get(uid)

    def follow(self, seconds: float, done: Callable[[], bool]) -> None:
        """Take in what happens, until ``done`` (asked after each change) or ``seconds`` have passed."""
        end = time.monotonic() + seconds
        if seconds <= 0 or (self._version and done()):
            return
        try:
            if not self._version:
                self.refresh()
                if done():
                    return
            with closing(self._kube.watch(self._path, self._version, seconds, **self._query)) as events:
                for event in events:
                    if event.get("type") == "ERROR":
                        break  # the version is too old
                    if (self._take(event) and done()) or time.monotonic() >= end:
                        return
        except (KubeError, KubeUnreachable) as error:
            _bear(error)
        if time.monotonic() < end:  # the line broke or the version is too old
            time.sleep(min(self._pause, max(0.0, end - time.monotonic())))
            try:
                self.refresh()
            except (KubeError, KubeUnreachable) as error:
                _bear(error)

    def _take(self, event: dict[str, Any]) -> bool:
        """Whether it was a change."""
        found = event.get("object")
        if not isinstance(found, dict):
            return False
        self._version = str(found["metadata"].get("resourceVersion") or self._version)
        if event.get("type") == "BOOKMARK":
            return False
        if event.get("type") == "DELETED":
            self._found.pop(_uid(found), None)
        else:
            self._found[_uid(found)] = found
        return True


def _bear(error: KubeError | KubeUnreachable) -> None:
    """An API server may restart or be busy while we wait; the caller's patience ends all the same."""
    if isinstance(error, KubeError) and error.status not in (410, 429) and error.status < 500:
        raise error


def _uid(found: dict[str, Any]) -> str:
    return str(found["metadata"]["uid"])
