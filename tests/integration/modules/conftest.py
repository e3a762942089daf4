# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the simulated NVML for the tests of this folder. The modules' lock and journal stay in the test's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from integration.modules.simulated_host import SimulatedHost, fresh_hosts

MakeHost = Callable[..., SimulatedHost]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    with fresh_hosts(SimulatedHost) as make:
        yield make
