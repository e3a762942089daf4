# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Take, keep and give back the cluster's roll-out lock. The decisions are ``_lease``'s; here are API and clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from ansible_collections.gpufleet.mig.plugins.module_utils import _lease, _process
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError, KubeUnreachable

CONFLICTS = 10
LONGEST_S = 10.0  # between two looks at the lock while something is watched

ARGUMENT_SPEC: dict[str, Any] = {
    "lock": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "default": _lease.NAME},
            "holder": {"type": "str", "required": True},
            "duration": {"type": "float", "default": _lease.DURATION_S},
        },
    },
    "wave": {"type": "int"},
}


class LockLost(MigError):
    """The lock is somebody else's, or gone: nothing further may be changed."""


class LockHeld(MigError):
    """Somebody else holds the lock and is not known to be dead."""


@dataclass(frozen=True)
class Taken:
    """How an attempt ended. ``how`` is _lease.verdict's word; ``before`` who held it."""

    how: str
    before: _lease.Held | None
    since: str


class Lock:
    """The Lease of one cluster."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self.namespace = namespace
        self.name = name
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._path = f"{self._folder}/{quote(name)}"

    def read(self) -> dict[str, Any] | None:
        """The Lease as it is; None where there is none yet."""
        return self._kube.find(self._path)

    def write(self, patch: Mapping[str, Any], version: str) -> dict[str, Any]:
        """Change the lease that was read with this version. KubeError 409 where it changed since."""
        metadata = {**patch.get("metadata", {}), "resourceVersion": version}
        return self._kube.merge_patch(self._path, {**patch, "metadata": metadata})

    def acquire(
        self, me: str, process: _process.Process, *, duration: float, wait: float, force: bool, poll: float, dry: bool
    ) -> Taken:
        """Returns when the lock is ours (or would be, with ``dry``). Raises LockHeld after ``wait`` seconds.

        Who renews his lease while we wait is alive; who does not for the lease's duration is replaced.
        """
        deadline = time.monotonic() + wait
        seen: tuple[str, float] = ("", 0.0)
        conflicts = 0
        while True:
            lease = self.read()
            held, now = _lease.read(lease), time.monotonic()
            if held is not None and held.version != seen[0]:
                seen = (held.version, now)
            how = _lease.verdict(
                held,
                me,
                unchanged_s=now - seen[1],
                dead=held is not None and held.holder != me and _process.is_dead(held.process),
                force=force,
            )
            if how == "wait":
                if dry or now >= deadline or held is None:
                    raise self._refusal(held, wait)
                time.sleep(min(poll, max(0.0, deadline - now)))
                continue
            stamp = _now()
            try:
                if not dry:
                    self._claim(lease, _lease.claim(lease, me, process, duration, stamp, how))
                return Taken(how, held, held.since if held is not None and how == "mine" else stamp)
            except KubeError as error:
                conflicts += 1
                # another run was quicker, or our own write arrived although its answer did not
                if error.status != 409 or conflicts > CONFLICTS:
                    raise
                time.sleep(min(poll, 0.1))

    def _claim(self, lease: dict[str, Any] | None, patch: dict[str, Any]) -> None:
        if lease is not None:
            self.write(patch, str(lease["metadata"].get("resourceVersion") or ""))
            return
        annotations = {key: value for key, value in patch["metadata"]["annotations"].items() if value is not None}
        self._kube.create(
            self._folder,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": self.namespace, "annotations": annotations},
                "spec": patch["spec"],
            },
        )

    def _refusal(self, held: _lease.Held | None, wait: float) -> LockHeld:
        who = _lease.describe(held) if held else "somebody"
        patience = f"{held.duration:g}" if held else "some"
        after = f" after {wait:g} s of waiting" if wait else ""
        return LockHeld(
            f"Another roll-out holds the lock {self.name} in namespace {self.namespace}{after}: {who}. Nothing was "
            f"changed. Let it end and run again; a holder that does not renew for {patience} s is replaced when wait "
            "is longer than that; if you know that it is dead, take the lock once with force: true.",
            holder=held.holder if held else None,
            since=held.since if held else None,
        )

    def release(self, me: str, *, dry: bool) -> bool:
        """Give it back; False where nobody holds it. Raises LockLost where it is somebody else's."""
        for _attempt in range(CONFLICTS):
            lease = self.read()
            held = _lease.read(lease)
            if lease is None or held is None:
                return False
            if held.holder != me:
                raise self.lost(held, me)
            if dry:
                return True
            try:
                self.write(_lease.release(_now()), held.version)
                return True
            except KubeError as error:
                if error.status != 409:
                    raise
        raise MigError(
            f"The lock {self.name} in namespace {self.namespace} changes too often to be released; run again."
        )

    def remove(self, *, dry: bool) -> bool:
        """Delete the Lease; False where there is none. Raises LockHeld where somebody holds it."""
        lease = self.read()
        if lease is None:
            return False
        held = _lease.read(lease)
        if held is not None:
            raise self._refusal(held, 0)
        return dry or self._kube.delete(self._path, uid=lease["metadata"].get("uid"))

    def lost(self, held: _lease.Held | None, me: str) -> LockLost:
        """The sentence for a holder that is none any more."""
        what = f"it is held by {_lease.describe(held)}" if held else "it was released or deleted"
        return LockLost(
            f"The roll-out lock {self.name} in namespace {self.namespace} is not {me}'s any more: {what}. This run "
            "changes nothing further; look at what the other one does, then run the same command again.",
            holder=held.holder if held else None,
        )


class Keeper:
    """Proof, while a module works, that the lock is still ours. Threads may share one.

    Call it often: it asks the API only when a third of the lease's duration has gone by.
    """

    def __init__(self, lock: Lock, holder: str, duration: float) -> None:
        self._lock = lock
        self._holder = holder
        self.duration = duration
        self._version = ""
        self._renewed = time.monotonic()
        self._guard = threading.Lock()

    def __call__(self) -> None:
        """Renew when it is time. Raises LockLost; an API that does not answer is borne until the lease has run out."""
        with self._guard:
            age = time.monotonic() - self._renewed
            if age < self.duration / 3:
                return
            try:
                self._renew()
            except KubeUnreachable as error:
                if age < self.duration:
                    return
                raise LockLost(
                    f"The roll-out lock {self._lock.name} could not be renewed for {age:.0f} s, longer than it lasts, "
                    f"so another run may hold it by now. This run changes nothing further. {error}"
                ) from error

    def prove(self) -> None:
        """Renew now: the last thing before a step that cannot be taken back. Raises LockLost."""
        with self._guard:
            self._renew()

    def look(self) -> None:
        """For check mode, in which nobody took the lock: raises LockLost only where somebody else has it."""
        held = _lease.read(self._lock.read())
        if held is not None and held.holder != self._holder:
            raise self._lock.lost(held, self._holder)

    def _renew(self) -> None:
        for _attempt in range(CONFLICTS):
            if not self._version:
                held = _lease.read(self._lock.read())
                if held is None or held.holder != self._holder:
                    raise self._lock.lost(held, self._holder)
                self._version = held.version
            try:
                written = self._lock.write(_lease.renewal(_now(), self.duration), self._version)
            except KubeError as error:
                if error.status not in (404, 409):
                    raise
                self._version = ""
                continue
            self._version = str(written["metadata"].get("resourceVersion") or "")
            self._renewed = time.monotonic()
            return
        raise MigError(f"The roll-out lock {self._lock.name} changes too often to be renewed; run again.")


def no_lock() -> None:
    """Stands in for a Keeper's call where no lock was given."""


def between(keep: Callable[[], None]) -> float:
    """Seconds that a wait may last before it calls ``keep`` again."""
    return min(LONGEST_S, keep.duration / 3) if isinstance(keep, Keeper) else LONGEST_S


def keeper(kube: Kube, told: Mapping[str, Any] | None, *, dry: bool) -> Callable[[], None]:
    """What a waiting module calls again and again. The lock (module option ``lock``) is proved to be ours at once."""
    found = open_keeper(kube, told, dry=dry)
    return no_lock if found is None or dry else found


def open_keeper(kube: Kube, told: Mapping[str, Any] | None, *, dry: bool) -> Keeper | None:
    """As keeper(), for modules that prove it again later."""
    if not told:
        return None
    found = Keeper(Lock(kube, told["namespace"], told["name"]), told["holder"], float(told["duration"]))
    if dry:
        found.look()
    else:
        found.prove()
    return found


def _now() -> str:
    """A MicroTime of the API."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
