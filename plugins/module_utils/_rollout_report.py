# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a roll-out: a record per node that grows phase by phase, and how all of them read. Pure.

What a record holds is described in docs/rollout_report.md. Everything comes in from outside, the time too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._markdown import bullets, table
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import read_waves, split

Part = Mapping[str, Any]
Record = dict[str, Any]

DEFAULTS: dict[str, Any] = {"mig_evict": "affected"}
"""Of overrides that are no switch."""

SIDES = ("layout", "allocatable")
"""Keys whose value has a side before and one after."""


def begin(host: str, hosts: Sequence[str], waves: Any, now: str) -> Record:
    """The record of a node that waits for its turn. MigError for waves that cannot be read."""
    groups = split(list(hosts), read_waves(waves, len(hosts)))
    wave = next(number for number, group in enumerate(groups, 1) if host in group)
    return {
        "host": host,
        "node": host,
        "number": list(hosts).index(host) + 1,
        "of": len(hosts),
        "wave": wave,
        "waves": len(groups),
        "state": "waiting",
        "phases": [{"phase": "waiting", "at": now, "seconds": None}],
        "layout": {"before": None, "after": None},
        "allocatable": {"before": None, "after": None},
        "digests": {"before": None, "target": None},
        "drift": [],
        "evicted": [],
        "blockers": [],
        "overrides": {},
        "driver": None,
        "error": None,
    }


def advance(record: Part, phase: str, details: Part, now: str) -> Record:
    """The record in its next phase, with what became known. An end has no length of its own."""
    grown = enrich(record, details)
    phases = [dict(one) for one in grown["phases"]]
    if phases[-1]["phase"] != phase:
        phases[-1]["seconds"] = _between(phases[-1]["at"], now)
        phases.append({"phase": phase, "at": now, "seconds": 0.0 if phase in _progress.ENDS else None})
    return {**grown, "state": phase, "phases": phases}


def enrich(record: Part, details: Part) -> Record:
    """The record with `details`: sides are joined, pods and blockers are added, all else is replaced."""
    grown = dict(record)
    for key, value in details.items():
        if key in (*SIDES, "digests"):
            grown[key] = {**grown[key], **value}
        elif key == "evicted":
            grown[key] = [*grown[key], *(name for name in value if name not in grown[key])]
        elif key == "overrides":
            grown[key] = {name: said for name, said in value.items() if said != DEFAULTS.get(name, False)}
        else:
            grown[key] = value
    return grown


def line(record: Part, evicting: Iterable[str] = ()) -> dict[str, Any]:
    """The record's entry under the key `gpufleet`: the phase it is in now, with its place among the nodes."""
    said = _progress.line(
        record["node"],
        record["state"],
        wave=record["wave"],
        digests=record["digests"],
        blockers=record["blockers"],
        evicted=record["evicted"],
        seconds=seconds(record),
        error=(record["error"] or {}).get("message"),
    )
    places = {key: record[key] for key in ("number", "of", "waves")}
    return {**said, **places, "evicting": list(evicting)}


def seconds(record: Part) -> float:
    """How long the node was worked on."""
    return round(sum(one["seconds"] or 0.0 for one in record["phases"] if one["phase"] != "waiting"), 1)


def _between(begin_at: str, end_at: str) -> float:
    return round((datetime.fromisoformat(end_at) - datetime.fromisoformat(begin_at)).total_seconds(), 1)


def document(run: Part, records: Iterable[Part], now: str) -> dict[str, Any]:
    """All of it as data; `outcome` is unfinished as long as a node waits or is worked on and none has failed."""
    nodes = sorted((dict(record) for record in records), key=lambda record: int(record["number"]))
    ended = [record for record in nodes if record["state"] in _progress.ENDS]
    failed = [record["host"] for record in ended if record["state"] not in _progress.GOOD_ENDS]
    outcome = "failed" if failed else "done" if len(ended) == len(nodes) else "unfinished"
    started = min((record["phases"][0]["at"] for record in nodes), default=now)
    return {**run, "outcome": outcome, "started": started, "updated": now, "failed": failed, "nodes": nodes}


def text(report: Part) -> str:
    """The end of a run for a terminal: a table, and what failed."""
    rows = [("NODE", "OUTCOME", "TIME", "EVICTED")]
    for record in report["nodes"]:
        rows.append((_name(record), _state(record), _progress.duration(seconds(record)), str(len(record["evicted"]))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *_failures(report)])


def _name(record: Part) -> str:
    return record["host"] if record["host"] == record["node"] else f"{record['host']} ({record['node']})"


def _state(record: Part) -> str:
    state = str(record["state"])
    return _progress.ENDS.get(state, "not begun" if state == "waiting" else f"stopped while {state}")


def _failures(report: Part) -> list[str]:
    said = []
    for record in report["nodes"]:
        if record["error"]:
            error = record["error"]
            said.append(f'{record["host"]}: "{error["step"]}" failed: {error["message"]}. Next: {error["next"]}')
    return said


def markdown(report: Part) -> str:
    """The same for people who were not there."""
    begun = f"Run {report['run']}: {report['outcome']}, {report['started']} to {report['updated']}."
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = ["# Roll-out", "", begun, f"With {versions}.", ""]
    if report["outcome"] == "unfinished":
        lines += ["It is still at work or was stopped: the same command again goes on from here.", ""]
    rows = [
        (record["wave"], _name(record), _state(record), _progress.duration(seconds(record)), len(record["evicted"]))
        for record in report["nodes"]
    ]
    lines += table(("wave", "node", "outcome", "time", "evicted"), rows)
    for title, said in (("Failures", _failures(report)), ("Overrides", _overrides(report))):
        if said:
            lines += ["", f"## {title}", "", *bullets(said)]
    for record in report["nodes"]:
        if record["state"] != "waiting":
            lines += ["", *_node(record)]
    return "\n".join(lines) + "\n"


def _overrides(report: Part) -> list[str]:
    used: dict[str, list[str]] = {}
    for record in report["nodes"]:
        for name, value in record["overrides"].items():
            used.setdefault(f"`{name}: {str(value).lower()}`", []).append(record["host"])
    return [f"{name} on {', '.join(hosts)}" for name, hosts in used.items()]


def _node(record: Part) -> list[str]:
    lines = [f"## {_name(record)}", ""]
    phases = [
        (one["phase"], one["at"], "" if one["seconds"] is None else _progress.duration(one["seconds"]))
        for one in record["phases"]
    ]
    lines += table(("phase", "begun", "took"), phases)
    rows: list[tuple[Any, ...]] = [("layout", *(_layout(record["layout"][side]) for side in ("before", "after")))]
    offered = {side: record["allocatable"][side] for side in ("before", "after")}
    for key in sorted({key for side in offered.values() for key in side or {}}):
        rows.append((f"`{key}`", *("not read" if side is None else side.get(key, 0) for side in offered.values())))
    lines += ["", *table(("", "before", "after"), rows)]
    said = [f"changed by hand since the last run: {one}" for one in record["drift"]]
    said += [f"evicted: {name}" for name in record["evicted"]]
    said += [f"in the way: {one['name']} {one['reason']} ({one['remedy']})" for one in record["blockers"]]
    return [*lines, "", *bullets(said)] if said else lines


def _layout(entries: Iterable[Part] | None) -> str:
    """What adopted_layout gives, in one cell."""
    return "not read" if entries is None else "; ".join(map(_entry, entries)) or "no GPU with MIG"


def _entry(entry: Part) -> str:
    gpus = ", ".join(map(str, entry["gpus"])) if isinstance(entry["gpus"], list) else entry["gpus"]
    if "instances" not in entry:
        return f"GPU {gpus}: MIG {entry['mig']}"
    counts = Counter(_instance(one) for one in entry["instances"])
    return f"GPU {gpus}: " + " + ".join(f"{count} x {name}" for name, count in counts.items())


def _instance(one: Part) -> str:
    if "compute_instances" not in one:
        return str(one["profile"])
    return f"{one['profile']}[{', '.join(ci['profile'] for ci in one['compute_instances'])}]"
