# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts at once: who shares a cluster, and the table that people read at the end of a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._slice_map import cell_width, slice_map

SHOWN_PROBLEMS = 5
"""Of one node in the table; the failure at the end names all of them."""

HEADINGS = ("NODE", "GPU", "MODEL", "MIG", "INSTANCES (memory slices)")


def clusters(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, list[str]]:
    """[mig_kubeconfig, mig_kube_context] of each host, [] of one in no cluster (mig_kubernetes false)."""
    return {name: _cluster(hostvars[name]) for name in hosts}


def same_cluster(hostvars: Mapping[str, Any], hosts: Iterable[str], host: str) -> list[str]:
    """Those of `hosts` that are nodes of the cluster of `host`; none where that is in no cluster.

    What the fact gpufleet_clusters of localhost says (`clusters`) is not looked up again: that is slow, and of all
    hosts for all hosts it is what a run on a large fleet would mostly do.
    """
    known = hostvars["localhost"].get("gpufleet_clusters") or {} if "localhost" in hostvars else {}
    mine = _identity(known, hostvars, host)
    return [name for name in hosts if _identity(known, hostvars, name) == mine] if mine else []


def _identity(known: Mapping[str, list[str]], hostvars: Mapping[str, Any], host: str) -> list[str]:
    return known[host] if host in known else _cluster(hostvars[host])


def _cluster(variables: Mapping[str, Any]) -> list[str]:
    if str(variables.get("mig_kubernetes", True)).lower() in ("false", "no", "0", "off"):
        return []
    return [str(variables.get("mig_kubeconfig") or ""), str(variables.get("mig_kube_context") or "")]


def fleet_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Lines of text: one per GPU, and one per node with what Kubernetes offers and whether all was verified.

    A report has host, strategy, gpus (as mig_info returns them), allocatable (None outside a cluster), problems, and
    leftovers: sentences about what is no difference but should go.
    """
    width = cell_width([gpu for report in reports for gpu in report["gpus"]])
    rows: list[tuple[str, ...]] = [HEADINGS]
    notes: dict[int, list[str]] = {}
    for report in reports:
        for gpu in report["gpus"]:
            drawn = slice_map(gpu, width) if gpu["mig_mode"]["current"] == "enabled" else "whole GPU"
            model = str(gpu["name"]).replace("NVIDIA ", "")
            rows.append((str(report["host"]), str(gpu["index"]), model, str(gpu["mig_mode"]["current"]), drawn))
        notes[len(rows) - 1] = _notes(report)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for number, row in enumerate(rows):
        lines.append("  ".join(text.ljust(size) for text, size in zip(row, widths)).rstrip())
        lines += [f"{row[0].ljust(widths[0])}  {note}" for note in notes.get(number, [])]
    return "\n".join(lines)


def _notes(report: Mapping[str, Any]) -> list[str]:
    problems, leftovers = list(report.get("problems") or []), list(report.get("leftovers") or [])
    verdict = "NOT VERIFIED" if problems else "verified"
    if len(problems) > SHOWN_PROBLEMS:
        problems = [*problems[:SHOWN_PROBLEMS], f"and {len(problems) - SHOWN_PROBLEMS} more differences"]
    offered = report.get("allocatable")
    if offered is None:
        return [f"= in no cluster; {verdict}", *problems, *leftovers]
    keys = [f"{key}: {count}" for key, count in sorted(offered.items()) if int(count)]
    text = ", ".join(keys) or "nothing of nvidia.com"
    return [f"= allocatable {text}; strategy {report['strategy']}; {verdict}", *problems, *leftovers]
