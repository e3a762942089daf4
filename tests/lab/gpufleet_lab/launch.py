# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Start boot.py for a host or the control plane and remember its process 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import cgroups, procs
from .settings import LAB_SOURCE, LOGS, LabError
from .shell import write

_BOOT = LAB_SOURCE / "gpufleet_lab" / "boot.py"


def console_of(name: str) -> Path:
    return LOGS / name / "console.log"


def last_words(name: str, lines: int = 12) -> str:
    """The end of a console log, to be shown beside an error."""
    console = console_of(name)
    if not console.exists():
        return ""
    return "\n".join(console.read_text(errors="replace").splitlines()[-lines:])


def launch(
    name: str, record: Path, digest: str, spec: dict[str, Any], plug: Callable[[int], None] | None = None
) -> procs.Init:
    """Start process 1 of `name`. `plug(pid)` runs when its namespaces exist and before it goes on (network cable).

    `record` is written before it goes on, so that a later `down` finds it whenever we are interrupted.
    """
    console = console_of(name)
    console.parent.mkdir(parents=True, exist_ok=True)
    folders = cgroups.create(name)
    spec = {
        "name": name,
        "console": str(console),
        "cgroup_procs": [str(folder / "cgroup.procs") for folder in folders],
        **spec,
    }
    file = record.with_name("boot.json")
    write(file, json.dumps(spec, indent=1), 0o600)
    with (
        console.open("a") as errors,
        subprocess.Popen(
            [sys.executable, str(_BOOT), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            cwd="/",
            env={key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")},
        ) as starter,
    ):
        if starter.stdin is None or starter.stdout is None:
            raise LabError("boot.py was started without pipes.")
        told = starter.stdout.readline().strip()
        if not told:
            starter.wait()
            raise LabError(f"{name} could not be started:\n{last_words(name)}")
        pid = int(told)
        started = procs.start_time(pid)
        if started is None:
            raise LabError(f"{name} ended at once:\n{last_words(name)}")
        init = procs.Init(pid, started, digest)
        init.save(record)
        if plug:
            plug(pid)
        starter.stdin.write("go\n")
        starter.stdin.close()
        starter.stdout.close()
    return init
