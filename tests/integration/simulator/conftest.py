# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Hosts of the simulated NVML, to hold it to what documents say of the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from integration.modules.simulated_host import fresh_hosts
from integration.simulator.nvml_host import A100, NvmlHost, enabled

MakeHost = Callable[..., NvmlHost]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    with fresh_hosts(NvmlHost) as make:
        yield make


@pytest.fixture
def a100(make_host: MakeHost) -> NvmlHost:
    """One A100-SXM4-40GB with MIG on."""
    return make_host(enabled(A100))
