# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gpufleet-mig: show, plan, apply and export the layout of this host, and guard its node. Needs no Ansible.

Exit codes: 0 done, 1 failed (nothing was changed, or all was put back), 2 wrong command line, 3 done but for some GPUs,
or the node stays cordoned.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _boot, _metrics
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import readable
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import WAYS
from ansible_collections.gpufleet.mig.plugins.module_utils._host_change import HostChange
from ansible_collections.gpufleet.mig.plugins.module_utils._journal import DEFAULT_PATH

if TYPE_CHECKING:
    from ansible_collections.gpufleet.mig.plugins.module_utils import _guard

LAYOUT = "/etc/gpufleet-mig/layout.json"
GUARD = "/etc/gpufleet-mig/guard.json"

BOOT_WAYS = ("reset", "set_back")
"""At boot a mode that takes another reboot is given up: a host that does not take it would reboot for ever."""

DONE, FAILED, PARTLY = 0, 1, 3


def main(archive: Path, compiled: Path, key: bytes) -> int:
    """Do what the command line says; the exit code. The archive is the file that this runs from."""
    options = _options()
    if options.command == "compile":
        # at boot every import counts
        from ansible_collections.gpufleet.mig.plugins.module_utils import _archive

        _archive.compile_beside(archive, compiled, key)
        return DONE
    try:
        return int(options.run(options))
    except MigError as error:
        _say(f"{error}")
        if options.command == "apply":
            _say(*_metrics.keep(options.metrics, _metrics.APPLY_FILE, _metrics.apply_metrics(False)))
        return FAILED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpufleet-mig", description="The MIG layout of this host.")
    words = "show | plan | apply | export | cordon | uncordon"
    commands = parser.add_subparsers(dest="command", metavar=words, required=True)
    for name, run, text in (
        ("show", _show, "what stands, and what differs from the layout"),
        ("plan", _plan, "what apply would do; nothing is touched"),
        ("apply", _apply, "bring the GPUs to the layout: all, or none"),
        ("export", _export, "print what stands as a layout for --layout"),
        ("cordon", _cordon, "after a boot, before the kubelet starts: cordon the node and release its device pods"),
        ("uncordon", _uncordon, "give the node back once it shows what its GPUs are"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        command.add_argument("--journal", default=DEFAULT_PATH, help="journal of a change in progress")
        if name != "export":
            command.add_argument("--layout", default=LAYOUT, metavar="FILE", help=f"the layout (default {LAYOUT})")
        if name in ("show", "apply"):
            command.add_argument("--metrics", metavar="FOLDER", help="write metrics for node_exporter there")
        if name in ("plan", "apply"):
            command.add_argument("--boot", action="store_true", help="what can be, GPU by GPU, as after a reboot")
        if name in ("cordon", "uncordon"):
            command.add_argument("--guard", default=GUARD, metavar="FILE", help=f"the cluster (default {GUARD})")
            command.add_argument("--timeout", type=float, default=30, metavar="S", help="seconds (default 30)")
    commands.add_parser("compile", description="Keep compiled code beside this file, so that it starts faster.")
    return parser.parse_args()


def _document(options: argparse.Namespace) -> dict[str, Any]:
    return _boot.read_document(_text(options.layout, "--layout"), options.layout)


def _text(name: str, option: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise MigError(
            f"{name} cannot be read ({error}). Nothing was changed; run gpufleet.mig.site for this host, or name "
            f"another file with {option}."
        ) from None


def _begin(options: argparse.Namespace, stack: ExitStack, check: bool, lost: list[str] | None = None) -> HostChange:
    ways = BOOT_WAYS if getattr(options, "boot", False) else WAYS
    params = {"journal": options.journal, "mode_changes": ways, "parallel": True}
    return stack.enter_context(HostChange.begin(params, check, lost))


def _planned(
    options: argparse.Namespace, document: dict[str, Any], change: HostChange
) -> tuple[dict[str, Any], list[str]]:
    planner = _boot.plan_what_can if options.boot else _boot.plan_all
    return planner(document, change.reading.gpus, change.params["mode_changes"])


def _read(options: argparse.Namespace, problems: list[str]) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        return _begin(options, stack, True, problems).reading.gpus


def _compare(document: dict[str, Any], gpus: list[dict[str, Any]]) -> list[str]:
    """Where the GPUs differ from the document."""
    plan, missing = _boot.plan_all(document, gpus)
    infeasible = [] if plan["feasible"] else [str(plan["reason"])]
    return missing + [f"{sentence}." for sentence in plan["differences"]] + infeasible


def _show(options: argparse.Namespace) -> int:
    problems: list[str] = []
    gpus = _read(options, problems)
    sys.stdout.write(readable(gpus))
    document = _document(options)  # after what can be shown without one
    problems += _compare(document, gpus)
    _say(*problems)
    drift = bool(problems)
    _say(
        *_metrics.keep(options.metrics, _metrics.LAYOUT_FILE, _metrics.layout_metrics(gpus, document["digest"], drift))
    )
    return PARTLY if drift else DONE


def _plan(options: argparse.Namespace) -> int:
    document, problems = _document(options), list[str]()
    with ExitStack() as stack:
        change = _begin(options, stack, True, problems if options.boot else None)
        plan, missing = _planned(options, document, change)
        foretold = change.carry_out(plan)
    _tell(foretold, problems + missing)
    return PARTLY if problems + missing else DONE


def _apply(options: argparse.Namespace) -> int:
    document, problems = _document(options), list[str]()
    if options.boot:  # stands where this run is killed for taking too long
        _say(*_metrics.keep(options.metrics, _metrics.APPLY_FILE, _metrics.apply_metrics(False)))
    with ExitStack() as stack:
        change = _begin(options, stack, False, problems if options.boot else None)
        plan, missing = _planned(options, document, change)
        if missing and not options.boot:
            raise MigError(f"{' '.join(missing)} Nothing was changed; --boot restores the other GPUs.")
        result = change.carry_out(plan, each_alone=options.boot)
    problems += missing + ([str(change.failure)] if change.failure else [])
    _say(*change.warnings)
    _tell(result, problems)
    good = not problems and not result["reboot_required"]
    _say(*_metrics.keep(options.metrics, _metrics.APPLY_FILE, _metrics.apply_metrics(good)))
    standing = _metrics.layout_metrics(result["gpus"], document["digest"], not good)
    _say(*_metrics.keep(options.metrics, _metrics.LAYOUT_FILE, standing))
    return DONE if good else PARTLY


def _export(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        gpus = _begin(options, stack, True).reading.gpus
    json.dump(_boot.boot_layout(gpus), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return DONE


def _cordon(options: argparse.Namespace) -> int:
    guard, _settings = _guard_of(options)
    _say(*guard.cordon(_look(options)[1]))
    return DONE


def _uncordon(options: argparse.Namespace) -> int:
    from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import expected_resources

    guard, settings = _guard_of(options)
    gpus, problem = _look(options)
    # Where nothing can be foretold, the node is given back as soon as it is ready, if it is given back at all.
    expected = expected_resources(gpus, settings.strategy, settings.plugin_config)
    back, sentences = guard.uncordon(problem, None if not gpus or expected["error"] else expected)
    _say(*sentences)
    return DONE if back else PARTLY


def _look(options: argparse.Namespace) -> tuple[list[dict[str, Any]], str | None]:
    """The GPUs that can be read, and what of the layout could not be restored."""
    problems: list[str] = []
    gpus: list[dict[str, Any]] = []
    try:
        gpus = _read(options, problems)
        problems += _compare(_document(options), gpus)
    except MigError as error:
        problems.append(str(error))
    more = [f"({len(problems) - 3} more: gpufleet-mig show.)"] if len(problems) > 3 else []
    return gpus, " ".join(problems[:3] + more) or None


def _guard_of(options: argparse.Namespace) -> tuple[_guard.Guard, _guard.Settings]:
    # what the other commands need not wait for
    from ansible_collections.gpufleet.mig.plugins.module_utils import _guard
    from ansible_collections.gpufleet.mig.plugins.module_utils._host_kube import HostKube

    settings = _guard.read_settings(_text(options.guard, "--guard"), options.guard)
    deadline = time.monotonic() + options.timeout
    kube = HostKube(settings.cluster, settings.user, settings.source, settings.folder, deadline)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return _guard.Guard(kube, settings, boot, deadline), settings


def _tell(result: dict[str, Any], problems: Sequence[str]) -> None:
    sys.stdout.write(result["diff"]["after"])
    sys.stdout.write("changed\n" if result["changed"] else "nothing to change\n")
    _say(*problems)


def _say(*sentences: str) -> None:
    for sentence in sentences:
        sys.stderr.write(f"gpufleet-mig: {sentence}\n")
