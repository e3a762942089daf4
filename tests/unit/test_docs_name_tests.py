# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Pages that name tests as proof: each of these tests exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["guarantees.md", "drills.md"])
def test_what_a_page_names_as_proof_is_a_test(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 10
    assert named <= there, sorted(named - there)
    missing = [path for path in re.findall(r"`(tests/\S+\.py)`", text) if not (ROOT / path).is_file()]
    assert not missing
