# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One roll-out per cluster: what a Lease says, who may take it, and what is written. Pure: API objects in and out.

Expiry is judged by how long *this* process has seen the lease unchanged on its own monotonic clock. The times in a
lease are its holder's clock, and a clock that is ten minutes off must neither steal a lock nor keep it for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._process import Process

NAMESPACE = "kube-system"
NAME = "gpufleet-rollout"
DURATION_S = 300
PROCESS = "gpufleet.io/holder-process"
TAKEN_OVER = "gpufleet.io/taken-over-from"


@dataclass(frozen=True)
class Held:
    """A lease with a holder. Times are the holder's words."""

    holder: str
    since: str
    renewed: str
    duration: float
    version: str
    process: Process | None


def identity(run: str, process: Process) -> str:
    """The holder's name: run id, controller, process and its start, for example ``r7@ctl-1:4242:815`` ."""
    return f"{run}@{process.host}:{process.pid}:{process.started}"


def run_of(holder: str) -> str:
    """The run id in a holder's name."""
    return holder.rpartition("@")[0] or holder


def read(lease: Mapping[str, Any] | None) -> Held | None:
    """Who holds it; None where nobody does."""
    spec = (lease or {}).get("spec") or {}
    if lease is None or not spec.get("holderIdentity"):
        return None
    metadata = lease["metadata"]
    return Held(
        holder=str(spec["holderIdentity"]),
        since=str(spec.get("acquireTime") or "an unknown time"),
        renewed=str(spec.get("renewTime") or "an unknown time"),
        duration=float(spec.get("leaseDurationSeconds") or DURATION_S),
        version=str(metadata.get("resourceVersion") or ""),
        process=Process.parse(_json((metadata.get("annotations") or {}).get(PROCESS))),
    )


def _json(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def verdict(held: Held | None, me: str, *, unchanged_s: float, dead: bool, force: bool) -> str:
    """What the one called ``me`` may do: ``free``, ``mine``, ``dead``, ``expired``, ``forced`` (take it), or ``wait``.

    ``unchanged_s``: seconds that this lease was seen without any change. ``dead``: its process certainly ended.
    """
    if held is None:
        return "free"
    if held.holder == me:
        return "mine"
    if dead:
        return "dead"
    if unchanged_s >= held.duration:
        return "expired"
    return "forced" if force else "wait"


def claim(
    lease: Mapping[str, Any] | None, me: str, process: Process, duration: float, now: str, reason: str
) -> dict[str, Any]:
    """The merge patch (or, where there is no lease, the object without its name) that makes ``me`` the holder.

    ``reason`` is the verdict; who was replaced, and why, stays in an annotation.
    """
    held = read(lease)
    annotations: dict[str, str | None] = {PROCESS: json.dumps(process.plain(), sort_keys=True)}
    spec: dict[str, Any] = {"holderIdentity": me, "leaseDurationSeconds": max(1, round(duration)), "renewTime": now}
    if held is None or held.holder != me:
        spec["acquireTime"] = now
        spec["leaseTransitions"] = int(((lease or {}).get("spec") or {}).get("leaseTransitions") or 0) + 1
        if held is None:
            annotations[TAKEN_OVER] = None
        else:
            annotations[TAKEN_OVER] = json.dumps(
                {"holder": held.holder, "since": held.since, "reason": reason, "at": now}, sort_keys=True
            )
    return {"metadata": {"annotations": annotations}, "spec": spec}


def renewal(now: str, duration: float) -> dict[str, Any]:
    """The merge patch of a holder that goes on."""
    return {"spec": {"renewTime": now, "leaseDurationSeconds": max(1, round(duration))}}


def release(now: str) -> dict[str, Any]:
    """The merge patch of a holder that ends. The object stays: deleting it would need one more right."""
    return {"metadata": {"annotations": {PROCESS: None}}, "spec": {"holderIdentity": None, "renewTime": now}}


def describe(held: Held) -> str:
    """Who holds it and since when, as part of a sentence."""
    return f"{held.holder} since {held.since}, last renewed {held.renewed} (times of its own clock)"
