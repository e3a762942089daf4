# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of Markdown documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def bullets(items: Iterable[str]) -> list[str]:
    """A list, one line each."""
    return [f"* {item}" for item in items]


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [headings, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(headings)}", *lines[1:]]
