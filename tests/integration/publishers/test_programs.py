# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The Go tests of the publishers' stand-ins, among them the 216 states that the real programs were captured in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.gpufleet_lab.settings import PUBLISHERS_SOURCE, SIMULATOR_SOURCE
from lab.gpufleet_lab.toolchain import go_binary, go_environment

pytestmark = pytest.mark.slow


def go(*arguments: str, **variables: str) -> str:
    """Run go in the publishers' module; the answer is its output, a failure shows it."""
    environment = {**os.environ, **go_environment(), "CGO_CFLAGS": "-O2 -Wno-deprecated-declarations", **variables}
    command = [go_binary(), *arguments]
    done = subprocess.run(command, cwd=PUBLISHERS_SOURCE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_programs_publish_what_the_real_ones_did(tmp_path: Path) -> None:
    make = ["make", "-C", str(SIMULATOR_SOURCE), f"BUILD={tmp_path}", f"PYTHON={sys.executable}"]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Go's test cache does not see the programs that the tests build and run.
    tested = go("test", "-count=1", "./...", SIM_BUILD=str(tmp_path))
    assert "publishers/e2e" in tested


def test_go_code_is_formatted_and_vetted() -> None:
    formatted = subprocess.run(
        [str(Path(go("env", "GOROOT").strip()) / "bin" / "gofmt"), "-l", "."],
        cwd=PUBLISHERS_SOURCE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert formatted.stdout == ""
    go("vet", "./...")
