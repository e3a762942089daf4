# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Hosts of the simulated NVML, to hold it to what documents say of the real one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.modules.simulated_host import build_simulator
from integration.simulator.nvml_host import NvmlHost

MakeHost = Callable[..., NvmlHost]


@pytest.fixture(scope="session")
def simulator() -> Path:
    return build_simulator()


@pytest.fixture
def make_host(simulator: Path) -> Iterator[MakeHost]:
    """A function that gives a fresh host with the GPUs named. Every user may look into the host's folder."""
    assert (simulator / "libnvidia-ml.so.1").is_file()
    folder = Path(tempfile.mkdtemp(prefix="nvml-host-"))
    folder.chmod(0o755)
    made = 0

    def make(*gpus: Any, **host: Any) -> NvmlHost:
        nonlocal made
        made += 1
        return NvmlHost(folder / str(made), gpus, **host)

    yield make
    shutil.rmtree(folder)
