# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's plan to read: as text for a terminal and as Markdown for a review. Pure; the words are in _plan_words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._markdown import bullets, table
from ansible_collections.gpufleet.mig.plugins.module_utils._plan_words import (
    STATES,
    capacity,
    driver_line,
    gpu_lines,
    gpu_title,
    label_digest,
    label_lines,
    resource_line,
    still,
    summary,
    title,
)

Part = Mapping[str, Any]

DETAILED = ("changes", "blocked")
WIDE = 11
"""Characters of the headings beside a GPU in the text."""


def text(plan: Part) -> str:
    """Lines for a terminal: a summary, the hosts that need attention one by one, the fleet and the waves."""
    lines = summary(plan)
    for host in plan["hosts"]:
        if host["status"] != "unchanged":
            lines += ["", title(host), *(f"  {line}" for line in _text_of(host))]
    unchanged = _names(plan, "unchanged")
    if unchanged:
        lines += ["", f"{STATES['unchanged']}: {', '.join(unchanged)}"]
    lines += ["", "FLEET", *(f"  allocatable {line}" for line in _fleet_lines(plan))]
    for wave in _waves(plan):
        lines.append(f"  wave {wave['number']}: {_many(wave['hosts'])}")
        lines.append(f"    with {wave['out']} of them out at a time: left for new pods {capacity(wave['left'])}")
    return "\n".join(lines)


def _names(plan: Part, status: str) -> list[str]:
    return [host["host"] for host in plan["hosts"] if host["status"] == status]


def _waves(plan: Part) -> list[Part]:
    return list(plan["waves"]["waves"])


def _many(names: Sequence[str]) -> str:
    return f"{len(names)} host{'' if len(names) == 1 else 's'}: {', '.join(names)}"


def _fleet_lines(plan: Part) -> list[str]:
    lines = [resource_line(key, sides) for key, sides in plan["fleet"]["resources"].items()]
    return lines or ["nothing of nvidia.com"]


def _text_of(host: Part) -> list[str]:
    lines = [host["reason"]] if host["reason"] else []
    lines += [f"note: {note}" for note in host["notes"]]
    lines += [f"driver {driver_line(host['driver'])}"] if host["driver"] else []
    if host["status"] in DETAILED:
        for part in host["gpus"]:
            if part["changes"]:
                lines += [gpu_title(part), *(f"  {line}" for line in _text_of_gpu(part))]
        if still(host):
            lines.append(still(host))
    if host["pods"]:
        lines.append(f"pods that must move: {', '.join(host['pods'])}")
    if host["status"] in (*DETAILED, "unpublished"):
        lines += [f"allocatable {resource_line(key, sides)}" for key, sides in (host["resources"] or {}).items()]
        lines += [f"label {line}" for line in label_digest(host["labels"] or {})]
    return lines


def _text_of_gpu(part: Part) -> list[str]:
    rows = [("before", part["map"]["before"]), ("after", part["map"]["after"]), *gpu_lines(part)]
    width = max((len(step["command"]) for step in part["by_hand"]), default=0)
    for number, step in enumerate(part["by_hand"]):
        rows.append(("" if number else "by hand", f"{step['command'].ljust(width)}  # {step['note']}"))
    return [f"{heading.ljust(WIDE)}{said}" for heading, said in rows]


def markdown(plan: Part) -> str:
    """The same for a pull request: headings, tables, and the commands as code blocks."""
    lines = ["# Plan of the GPU fleet", "", *bullets(summary(plan)), "", "## Fleet", ""]
    lines += table(
        ("resource", "before", "after"),
        [(f"`{key}`", sides["before"], sides["after"]) for key, sides in plan["fleet"]["resources"].items()],
    )
    if _waves(plan):
        lines += ["", "## Waves", "", "Only hosts that change are counted.", ""]
        lines += table(
            ("wave", "hosts", "out at a time", "left for new pods, at least"),
            [(each["number"], _many(each["hosts"]), each["out"], capacity(each["left"])) for each in _waves(plan)],
        )
    if plan["destroy"]["instances"]:
        lines += ["", "## Instances that go", "", *bullets(plan["destroy"]["instances"])]
    lines += ["", "## Hosts", ""]
    lines += table(
        ("host", "state", "why"), [(h["host"], STATES[h["status"]], h["reason"] or "") for h in plan["hosts"]]
    )
    for host in plan["hosts"]:
        if host["status"] in (*DETAILED, "unpublished"):
            lines += ["", *_markdown_of(host)]
    return "\n".join(lines) + "\n"


def _markdown_of(host: Part) -> list[str]:
    lines = [f"### {title(host)}", ""]
    driver = [f"driver {driver_line(host['driver'])}"] if host["driver"] else []
    lines += bullets([*filter(None, [host["reason"]]), *host["notes"], *driver])
    if host["pods"]:
        lines += bullets([f"pods that must move: {', '.join(host['pods'])}"])
    if host["resources"]:
        lines += ["", *table(("resource", "before", "after", "cluster shows"), _resource_rows(host["resources"]))]
    if host["labels"]:
        lines += ["", "```diff", *label_lines(host["labels"]), "```"]
    if host["status"] in DETAILED:
        for part in host["gpus"]:
            if part["changes"]:
                lines += ["", *_markdown_of_gpu(part)]
        if still(host):
            lines += ["", f"{still(host)}."]
    return [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]


def _markdown_of_gpu(part: Part) -> list[str]:
    lines = [f"#### {gpu_title(part)}", "", "```text"]
    lines += [f"before  {part['map']['before']}", f"after   {part['map']['after']}", "```", ""]
    lines += bullets(f"{heading}: {said}" for heading, said in gpu_lines(part))
    if part["by_hand"]:
        lines += ["", "```sh"]
        for step in part["by_hand"]:
            lines += [f"# {step['note']}", step["command"]]
        lines.append("```")
    return lines


def _resource_rows(resources: Mapping[str, Part]) -> list[tuple[Any, ...]]:
    return [
        (f"`{key}`", sides["before"], sides["after"], "not asked" if sides["now"] is None else sides["now"])
        for key, sides in resources.items()
    ]
