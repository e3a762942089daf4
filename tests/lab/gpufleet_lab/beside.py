# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A second lab beside this one, for tests that go on at the same time.

It has the same addresses, in a network namespace of its own, and a folder of its own. The namespace is what `down`
finds it by, so it goes last.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .settings import LAB_SOURCE, RUN_DIR
from .shell import ending_with_us, run

NAMESPACES = Path("/run/netns")
WITHIN = "GPUFLEET_LAB_BESIDE"
"""Set for everything that runs in such a lab."""


def execute(name: str, command: Sequence[str]) -> int:
    """Run a command in the lab of that name, which it starts itself, as it would the first; its exit code."""
    namespace = _namespace(name)
    if not namespace.exists():
        run("ip", "netns", "add", namespace.name)
    # Not `ip netns exec`: that mounts another /sys, without control groups.
    inside = ["nsenter", f"--net={namespace}", "--"]
    run(*inside, "ip", "link", "set", "lo", "up")
    folder = RUN_DIR.with_name(namespace.name)
    more = {"GPUFLEET_LAB_DIR": str(folder), "KUBECONFIG": str(folder / "kubeconfig"), WITHIN: name}
    return subprocess.call(ending_with_us([*inside, *command]), env={**os.environ, **more})


def down(names: Sequence[str] = ()) -> None:
    """End the labs of these names, or all that are beside this one."""
    lab = LAB_SOURCE / "lab.py"
    known = [path.name.removeprefix(f"{RUN_DIR.name}-") for path in NAMESPACES.glob(f"{RUN_DIR.name}-*")]
    for name in names or sorted(known):
        if _namespace(name).exists():
            run(sys.executable, lab, "beside", name, sys.executable, str(lab), "down")
            run("ip", "netns", "delete", _namespace(name).name)


def _namespace(name: str) -> Path:
    return NAMESPACES / f"{RUN_DIR.name}-{name}"
