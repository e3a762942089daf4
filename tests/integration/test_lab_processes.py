# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What is left of a test run that was killed ends with the lab."""

from __future__ import annotations

import os
import subprocess

import pytest
from lab.gpufleet_lab import procs

SLEEPS = ["sh", "-c", "sleep 600 & echo; wait"]


def test_a_killed_runs_children_end_and_nobody_elses() -> None:
    """As tools/test.sh marks its steps; the child of the step's shell has no parent that would tell it."""
    mark = f"GPUFLEET_MARK_{os.getpid()}"
    with (
        subprocess.Popen(SLEEPS, env={**os.environ, mark: "1"}, stdout=subprocess.PIPE, start_new_session=True) as ours,
        subprocess.Popen(SLEEPS, env={**os.environ, f"{mark}_TOO": "1"}, stdout=subprocess.PIPE) as other,
    ):
        assert ours.stdout is not None
        assert other.stdout is not None
        ours.stdout.readline(), other.stdout.readline()
        procs.end_marked(mark)
        assert ours.wait() == -9
        assert ours.stdout.read() == b""  # its child is gone too
        assert other.poll() is None
        procs.end_marked(f"{mark}_TOO")


def test_a_step_of_the_run_does_not_end_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"GPUFLEET_MARK_{os.getpid()}"
    monkeypatch.setenv(mark, "1")
    with subprocess.Popen(SLEEPS, stdout=subprocess.DEVNULL) as step:
        procs.end_marked(mark)
        assert step.poll() is None
        monkeypatch.delenv(mark)
        procs.end_marked(mark)
