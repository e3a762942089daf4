# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One Helm release brought to the state that is wanted, changing only what differs."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.gpufleet.mig.plugins.module_utils import _manifests, _rollout
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._helm import (
    ChartSource,
    Helm,
    HelmError,
    Release,
    Revision,
    chart_name,
    may_hold_crds,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError
from ansible_collections.gpufleet.mig.plugins.module_utils._manifests import Objects, Ref

PENDING = ("pending-install", "pending-upgrade", "pending-rollback")
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# What the API server adds to an object: no part of what is wanted.
SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


@dataclass(frozen=True)
class Wanted:
    """The module's options that describe the release."""

    name: str
    namespace: str
    chart: ChartSource | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    create_namespace: bool = False
    update_crds: bool = True
    wait: bool = True
    timeout: int = 300
    stuck_after: int = 60


@dataclass
class Outcome:
    """What was done, or in check mode would be: words for a person, objects before and after for the diff.

    ``history`` is the release's as it was read; it is stale once something was done.
    """

    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    history: list[Revision] = field(default_factory=list)
    before: Objects = field(default_factory=dict)
    after: Objects = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Anything done?"""
        return bool(self.actions)


def ensure_present(helm: Helm, kube: Kube, wanted: Wanted, *, check_mode: bool) -> Outcome:
    """Install or upgrade where something differs; then wait for the workloads, whether something differed or not."""
    if wanted.chart is None:  # the module's argument_spec asks for it
        raise AssertionError("no chart")
    outcome = Outcome()
    new_namespace = _check_namespace(kube, wanted)
    with tempfile.TemporaryDirectory(prefix="gpufleet-helm-") as folder:
        path = helm.fetch(wanted.chart, Path(folder))
        chart = _checked_chart(wanted.chart, path)
        history = outcome.history = _settled(helm, wanted, outcome, check_mode=check_mode)
        stored = _current(helm, wanted.name, history)
        crds = _plan_crds(helm, kube, wanted, path, upgrade=stored is not None)
        rendered = _render(helm, wanted, path, chart, history, crds)
        if stored is not None:
            outcome.before.update(_manifests.parse(stored.manifest))
        outcome.after.update(_manifests.parse(rendered.manifest))
        objects = dict(outcome.after)
        reasons = _differences(kube, wanted, history, stored, rendered, objects)
        for key, (old, new) in crds.items():
            if old is not None:
                outcome.before[key] = old
            outcome.after[key] = new
        stale = [key for key, (old, new) in crds.items() if old != new]
        if stale:
            outcome.actions.append(f"apply custom resource definitions {', '.join(key.name for key in stale)}")
        if new_namespace:
            outcome.actions.append(f"create namespace {wanted.namespace}")
        if reasons:
            outcome.actions.append(f"{'install' if stored is None else 'upgrade'} {wanted.name}: {'; '.join(reasons)}")
        if check_mode:
            return outcome
        _apply_crds(kube, {key: crds[key][1] for key in stale}, wanted.timeout)
        if reasons:
            helm.upgrade(
                wanted.name,
                path,
                wanted.values,
                create_namespace=wanted.create_namespace,
                skip_crds=wanted.update_crds,
                timeout=wanted.timeout,
            )
    if wanted.wait:
        outcome.warnings += _rollout.wait(
            kube, _rollout.workloads(objects, wanted.namespace), wanted.timeout, helm.keep
        )
    return outcome


def ensure_absent(helm: Helm, wanted: Wanted, *, check_mode: bool) -> Outcome:
    """Uninstall where there is something."""
    outcome = Outcome()
    history = outcome.history = helm.history(wanted.name)
    if not history or history[-1].status == "uninstalled":
        return outcome
    outcome.before.update(_manifests.parse(helm.stored(wanted.name, history[-1]).manifest))
    outcome.actions.append(f"uninstall {wanted.name}")
    if not check_mode:
        helm.uninstall(wanted.name, wanted.timeout)
    return outcome


def ensure_revision(helm: Helm, kube: Kube, wanted: Wanted, number: int, *, check_mode: bool) -> Outcome:
    """Roll back to an old revision, where what is deployed now is not the same already."""
    outcome = Outcome()
    history = outcome.history = _settled(helm, wanted, outcome, check_mode=check_mode)
    target = next((each for each in history if each.number == number), None)
    if target is None:
        known = ", ".join(str(each.number) for each in history) or "none"
        raise MigError(f"Release {wanted.name} has no revision {number} to roll back to; it has {known}.")
    now, then = helm.stored(wanted.name, history[-1]), helm.stored(wanted.name, target)
    outcome.before.update(_manifests.parse(now.manifest))
    outcome.after.update(_manifests.parse(then.manifest))
    same = (
        history[-1].status == "deployed"
        and outcome.before == outcome.after
        and now.chart == then.chart
        and _manifests.same_values(now.values, then.values)
    )
    if not same:
        outcome.actions.append(f"roll {wanted.name} back to revision {number} ({then.chart})")
    if check_mode:
        return outcome
    if not same:
        helm.rollback(wanted.name, number, wanted.timeout)
    if wanted.wait:
        targets = _rollout.workloads(outcome.after, wanted.namespace)
        outcome.warnings += _rollout.wait(kube, targets, wanted.timeout, helm.keep)
    return outcome


def _check_namespace(kube: Kube, wanted: Wanted) -> bool:
    """True where the namespace has to be made. The first request, so that an unreachable API shows before helm runs."""
    try:
        if kube.find(f"/api/v1/namespaces/{quote(wanted.namespace)}") is not None:
            return False
    except KubeError as error:
        if error.status != 403:
            raise
        return False  # a user who may not look at namespaces can still own this one; helm will tell
    if not wanted.create_namespace:
        raise MigError(f"Namespace {wanted.namespace} does not exist: make it, or set create_namespace: true.")
    return True


def _checked_chart(source: ChartSource, path: Path) -> str:
    name = chart_name(path)
    if source.local is not None and source.version and not name.endswith(f"-{source.version}"):
        raise MigError(f"Chart {source.reference} is {name}, wanted is version {source.version}.")
    return name


def _settled(helm: Helm, wanted: Wanted, outcome: Outcome, *, check_mode: bool) -> list[Revision]:
    """The history once no operation is under way; an operation that died half-way is undone first.

    helm marks a release pending while it works on it and refuses everything else; a helm that was killed leaves that
    mark.
    """
    history = helm.history(wanted.name)
    while history and history[-1].status in (*PENDING, "uninstalling"):
        last = history[-1]
        if check_mode:
            outcome.actions.append(f"put right {wanted.name}, whose revision {last.number} is {last.status}")
            return history
        if _age(last.updated) < wanted.stuck_after:
            helm.keep()
            time.sleep(1)  # someone else may be at work
            history = helm.history(wanted.name)
            continue
        good = [each for each in history if each.status in ("deployed", "superseded")]
        if last.status in ("pending-install", "uninstalling") or not good:
            outcome.actions.append(f"remove what is left of {wanted.name}: {last.status} was interrupted")
            helm.uninstall(wanted.name, wanted.timeout)
        else:
            back = next((each for each in reversed(good) if each.status == "deployed"), good[-1])
            outcome.actions.append(f"roll {wanted.name} back to revision {back.number}: {last.status} was interrupted")
            helm.rollback(wanted.name, back.number, wanted.timeout)
        history = helm.history(wanted.name)
    return history


def _age(updated: str) -> float:
    """Seconds since an RFC 3339 time with up to nine decimals, as helm writes it; infinite where it gives none."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", updated)
    if not found:
        return float("inf")
    moment = datetime.fromisoformat(found[1] + found[2].replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - moment).total_seconds()


def _current(helm: Helm, name: str, history: list[Revision]) -> Release | None:
    """The revision that the cluster shows, as far as helm knows."""
    if not history or history[-1].status == "uninstalled":
        return None
    return helm.stored(name, history[-1])


def _render(
    helm: Helm,
    wanted: Wanted,
    path: Path,
    chart: str,
    history: list[Revision],
    crds: Mapping[Ref, tuple[dict[str, Any] | None, dict[str, Any]]],
) -> Release:
    """The manifest as it will be; with the cluster's help where that is possible."""
    pending = bool(history) and history[-1].status in PENDING
    if not pending:
        try:
            return helm.dry_run(wanted.name, path, wanted.values, chart)
        except HelmError as error:
            # Objects of a kind whose definition this very run will apply: the cluster cannot know them yet.
            unknown = "no matches for kind" in error.stderr or "ensure CRDs are installed first" in error.stderr
            if not unknown or not crds:
                raise
    kinds = [kind for _old, new in crds.values() for kind in _kinds(new)]
    manifest = helm.template(wanted.name, path, wanted.values, upgrade=bool(history), kinds=kinds)
    return Release(number=0, manifest=manifest, values=dict(wanted.values), chart=chart)


def _kinds(crd: Mapping[str, Any]) -> list[str]:
    spec = crd["spec"]
    return [f"{spec['group']}/{version['name']}/{spec['names']['kind']}" for version in spec["versions"]]


def _differences(
    kube: Kube,
    wanted: Wanted,
    history: list[Revision],
    stored: Release | None,
    rendered: Release,
    objects: Objects,
) -> list[str]:
    """Why an install or upgrade is needed; [] when it is not."""
    if stored is None:
        return [f"{rendered.chart} is not installed"]
    reasons = []
    last = history[-1]
    if last.status != "deployed":
        reasons.append(f"revision {last.number} is {last.status}")
    if stored.chart != rendered.chart:
        reasons.append(f"chart {stored.chart} becomes {rendered.chart}")
    if not _manifests.same_values(stored.values, rendered.values):
        reasons.append("values differ")
    differing = _manifests.changed(_manifests.parse(stored.manifest), objects)
    if differing:
        reasons.append(f"{len(differing)} object(s) differ: {_manifests.names(differing)}")
    gone = [key for key in sorted(objects) if key not in differing and not _exists(kube, key, wanted.namespace)]
    if gone:
        reasons.append(f"{len(gone)} object(s) are gone from the cluster: {_manifests.names(gone)}")
    return reasons


def _exists(kube: Kube, key: Ref, namespace: str) -> bool:
    path = kube.object_path(key.api_version, key.kind, key.namespace or namespace, key.name)
    return path is not None and kube.find(path) is not None


def _plan_crds(
    helm: Helm, kube: Kube, wanted: Wanted, path: Path, *, upgrade: bool
) -> dict[Ref, tuple[dict[str, Any] | None, dict[str, Any]]]:
    """Definitions of the chart's crds folders (of enabled subcharts too): as stored now, and as they will be.

    helm installs them once and never touches them again. The API server itself says, in a dry run of a server-side
    apply, what the definition would become.
    """
    if not wanted.update_crds or not may_hold_crds(path):
        return {}
    if wanted.chart is None:  # the module's argument_spec asks for it
        raise AssertionError("no chart")
    everything = helm.template(wanted.name, path, wanted.values, upgrade=upgrade, crds=True)
    own = _manifests.parse(helm.template(wanted.name, path, wanted.values, upgrade=upgrade))
    plan: dict[Ref, tuple[dict[str, Any] | None, dict[str, Any]]] = {}
    for key, document in _manifests.parse(everything).items():
        if key.kind != "CustomResourceDefinition" or key in own:
            continue
        where = f"{CRD_PATH}/{quote(key.name)}"
        now = kube.find(where)
        then = kube.apply(where, document, dry_run=True)
        plan[key] = (None if now is None else _without_server_fields(now), _without_server_fields(then))
    return plan


def _without_server_fields(found: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in found["metadata"].items() if key not in SERVER_FIELDS}
    rest = {key: value for key, value in found.items() if key not in ("status", "metadata")}
    return {**rest, "metadata": metadata}


def _apply_crds(kube: Kube, documents: Mapping[Ref, dict[str, Any]], timeout: float) -> None:
    """Apply and wait until the API serves the kinds."""
    deadline = time.monotonic() + timeout
    for key, document in documents.items():
        kube.apply(f"{CRD_PATH}/{quote(key.name)}", document, dry_run=False)
    for key in documents:
        while True:
            found = kube.get(f"{CRD_PATH}/{quote(key.name)}")
            conditions = {each["type"]: each for each in (found.get("status") or {}).get("conditions") or []}
            if conditions.get("Established", {}).get("status") == "True":
                break
            if time.monotonic() >= deadline:
                told = json.dumps([each.get("message") for each in conditions.values()])
                raise MigError(f"The API server does not serve {key.name} after {timeout:g} s: {told}")
            time.sleep(0.2)
    kube.forget_kinds()


def describe(helm: Helm, wanted: Wanted, outcome: Outcome, *, check_mode: bool) -> dict[str, Any] | None:
    """The release as its history ends now; None where there is none."""
    history = helm.history(wanted.name) if outcome.changed and not check_mode else outcome.history
    if not history:
        return None
    last = history[-1]
    return {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "revision": last.number,
        "status": last.status,
        "chart": last.chart,
        "app_version": last.app_version,
    }
