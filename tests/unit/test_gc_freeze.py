# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What is put aside is no more searched for garbage, and the value passes through."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ansible_collections.gpufleet.mig.plugins.filter.gc_freeze import gc_freeze


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_there_is_put_aside_and_the_value_passes(thawed: None) -> None:
    held: list[int] = []
    assert gc_freeze(held) is held
    assert gc.get_freeze_count() > 0
    assert not any(one is held for one in gc.get_objects())
