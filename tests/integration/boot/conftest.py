# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that have the command gpufleet-mig, as the role mig packs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from integration.boot.boot_host import BootHost
from integration.modules.simulated_host import fresh_hosts

MakeBootHost = Callable[..., BootHost]


@pytest.fixture
def make_host() -> Iterator[MakeBootHost]:
    with fresh_hosts(BootHost) as make:
        yield make
