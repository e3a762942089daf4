# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Does the lab keep its promises?"""

from __future__ import annotations

from collections.abc import Callable


def run_all(up: Callable[[list[str]], None], down: Callable[[], None]) -> None:
    up([])
    down()
