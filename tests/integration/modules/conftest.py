# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the simulated NVML for the tests of this folder. The modules' lock and journal stay in the test's folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from integration.modules.simulated_host import SimulatedHost, build_simulator

MakeHost = Callable[..., SimulatedHost]


@pytest.fixture(scope="session")
def simulator() -> Path:
    return build_simulator()


@pytest.fixture
def make_host(simulator: Path) -> Iterator[MakeHost]:
    """A function that gives a fresh host with the GPUs named. Every user may look into the host's folder."""
    assert (simulator / "libnvidia-ml.so.1").is_file()
    folder = Path(tempfile.mkdtemp(prefix="mig-host-"))
    folder.chmod(0o755)
    made = 0

    def make(*gpus: Any, **host: Any) -> SimulatedHost:
        nonlocal made
        made += 1
        return SimulatedHost(folder / str(made), gpus, **host)

    yield make
    shutil.rmtree(folder)
