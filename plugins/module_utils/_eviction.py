# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Which pods of a node go, which stay, and which stand in the way. Pure: pods as the API's JSON in, decisions out.

The filters are those of kubectl drain: all or nothing, DaemonSet and mirror pods are not evicted, unmanaged pods and
pods with data in an emptyDir only when each of that is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _pods

RESOURCES = "nvidia.com/"
MIRROR = "kubernetes.io/config.mirror"
Pod = dict[str, Any]


@dataclass(frozen=True)
class Allowed:
    """What the user opted in to."""

    unmanaged: bool = False
    emptydir: bool = False
    daemonsets: bool = False


@dataclass(frozen=True)
class Blocker:
    """One reason why a pod does not go; ``budget`` is the PodDisruptionBudget that forbids it."""

    pod: str
    uid: str
    why: str
    reason: str
    remedy: str
    budget: str | None = None

    def plain(self) -> dict[str, Any]:
        """The module's public shape."""
        return {
            "kind": "pod",
            "name": self.pod,
            "uid": self.uid,
            "why": self.why,
            "reason": self.reason,
            "remedy": self.remedy,
            "budget": self.budget,
        }


@dataclass(frozen=True)
class Decision:
    """``evict`` through the Eviction API, ``delete`` (DaemonSet pods), ``ending`` are only waited for.

    ``stay``: GPU pods that keep running. With blockers nothing may be done at all.
    """

    evict: tuple[Pod, ...]
    delete: tuple[Pod, ...]
    ending: tuple[Pod, ...]
    stay: tuple[Pod, ...]
    blockers: tuple[Blocker, ...]

    @property
    def going(self) -> tuple[Pod, ...]:
        """Every pod that must be gone at the end."""
        return (*self.evict, *self.delete, *self.ending)


def uid(pod: Mapping[str, Any]) -> str:
    """A pod's identity: a name may be used again."""
    return str(pod["metadata"]["uid"])


def is_finished(pod: Mapping[str, Any]) -> bool:
    """Its containers have ended for good, so it holds no device."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def uses_gpu(pod: Mapping[str, Any]) -> bool:
    """Some container asks for an nvidia.com resource (an amount of 0 is none)."""
    spec = pod.get("spec", {})
    for container in (*(spec.get("containers") or []), *(spec.get("initContainers") or [])):
        resources = container.get("resources") or {}
        for amounts in (resources.get("limits") or {}, resources.get("requests") or {}):
            if any(key.startswith(RESOURCES) and str(amount) != "0" for key, amount in amounts.items()):
                return True
    return False


def gpu_pods(pods: Iterable[Pod]) -> list[Pod]:
    """The pods that hold or will hold a GPU, by name."""
    return sorted((pod for pod in pods if uses_gpu(pod) and not is_finished(pod)), key=_pods.full_name)


def is_job(pod: Pod) -> bool:
    """Will it end by itself?"""
    return (_pods.controller(pod) or {}).get("kind") == "Job"


def daemonset(pod: Pod) -> str | None:
    """The DaemonSet that makes this pod anew."""
    owner = _pods.controller(pod) or {}
    return owner["name"] if owner.get("kind") == "DaemonSet" else None


def decide(
    pods: Iterable[Pod],
    wanted: Collection[str] | None,
    allowed: Allowed,
    orphans: Collection[str] = (),
) -> Decision:
    """``pods``: all of the node. ``wanted``: uids that must go, None for every GPU pod.

    A uid that is not there any more has gone already. ``orphans``: uids of pods whose DaemonSet does not exist.
    """
    pods = sorted(pods, key=_pods.full_name)
    using = {uid(pod) for pod in pods if uses_gpu(pod)}
    chosen = using if wanted is None else set(wanted)
    evict: list[Pod] = []
    delete: list[Pod] = []
    ending: list[Pod] = []
    stay: list[Pod] = []
    blockers: list[Blocker] = []
    for pod in pods:
        if is_finished(pod):
            continue
        if uid(pod) not in chosen:
            if uid(pod) in using:
                stay.append(pod)
            continue
        if _pods.is_ending(pod):
            ending.append(pod)
            continue
        found = _objections(pod, allowed, uid(pod) in orphans)
        blockers += found
        if not found:
            (delete if daemonset(pod) and uid(pod) not in orphans else evict).append(pod)
    return Decision(tuple(evict), tuple(delete), tuple(ending), tuple(stay), tuple(blockers))


def _objections(pod: Pod, allowed: Allowed, orphan: bool) -> list[Blocker]:
    name, key = _pods.full_name(pod), uid(pod)
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        return [Blocker(name, key, "mirror", "is a static pod of the kubelet", "remove its manifest from the node")]
    owner = daemonset(pod)
    found = []
    if owner and not orphan:
        if not allowed.daemonsets:
            remedy = "keep it off this node or allow evict_daemonsets (mig_evict_daemonsets)"
            found.append(Blocker(name, key, "daemonset", f"belongs to DaemonSet {owner}, which makes it anew", remedy))
    elif (orphan or _pods.controller(pod) is None) and not allowed.unmanaged:
        reason = f"belongs to DaemonSet {owner}, which does not exist" if orphan else "belongs to no controller"
        remedy = "end it yourself or allow evict_unmanaged (mig_evict_unmanaged)"
        found.append(Blocker(name, key, "unmanaged", f"{reason}: nothing would bring it back", remedy))
    volumes = [str(each["name"]) for each in pod.get("spec", {}).get("volumes") or [] if "emptyDir" in each]
    if volumes and not allowed.emptydir:
        reason = f"has data in emptyDir {', '.join(volumes)} that would be lost"
        remedy = "save it or allow evict_emptydir (mig_evict_emptydir)"
        found.append(Blocker(name, key, "emptydir", reason, remedy))
    return found


_BUDGET = re.compile(r"disruption budget (\S+) ")


def budget_of(cause: str) -> str | None:
    """The budget's name in the API's words: "The disruption budget web needs 2 healthy pods and has 2 currently"."""
    found = _BUDGET.search(cause)
    return found[1] if found else None


def still_there(pod: Pod, asked: bool, said: str, budget: str | None) -> Blocker:
    """Why a pod has not gone when patience ends. ``said``: what the API last answered to its eviction."""
    name, key = _pods.full_name(pod), uid(pod)
    if budget:
        return Blocker(
            name,
            key,
            "budget",
            f"may not go because of PodDisruptionBudget {name.partition('/')[0]}/{budget} ({said.rstrip('.')})",
            "add a replica or relax the budget",
            budget,
        )
    if asked or _pods.is_ending(pod):
        finalizers = pod["metadata"].get("finalizers") or []
        if finalizers:
            reason = f"is ending but kept by finalizer {', '.join(finalizers)}"
            return Blocker(name, key, "ending", reason, "find out who should remove the finalizer")
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        words = "is still ending" + (f" (it may take {grace} s)" if grace else "")
        return Blocker(name, key, "ending", words, "give it more time (timeout) or look at its node's kubelet")
    return Blocker(name, key, "refused", f"was not evicted: {said or 'there was no time to ask'}", "repair the cause")


def unfinished_job(pod: Pod) -> Blocker:
    """A Job's pod that was given time and is not done."""
    owner = (_pods.controller(pod) or {}).get("name", "")
    return Blocker(
        _pods.full_name(pod), uid(pod), "job", f"of Job {owner} still runs", "give it more time (jobs_timeout)"
    )


def told(blockers: Iterable[Blocker]) -> str:
    """All of them as one part of a sentence."""
    return "; ".join(f"pod {each.pod} {each.reason}: {each.remedy}" for each in blockers)


def newcomers(pods: Iterable[Pod], keep: Collection[str]) -> list[Pod]:
    """GPU pods on the node that were not known when the change was prepared."""
    return [pod for pod in gpu_pods(pods) if uid(pod) not in keep]
