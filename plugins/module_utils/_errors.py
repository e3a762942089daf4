# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that the collection's utilities raise; only a plugin's main() turns them into a failure of Ansible."""

from __future__ import annotations

from typing import Any


class MigError(Exception):
    """One sentence for the user, and beside it the facts that a program may want.

    The sentence names the host, GPU, profile or pod, says what was undone and what to do next. `context` becomes
    return values of the failed task, so it holds plain data only.
    """

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.context: dict[str, Any] = context


class LayoutError(MigError):
    """The wanted layout is wrong as written: it names what is not there, contradicts itself or cannot be read."""


class NotKnownYet(LayoutError):
    """The layout goes by something that only the driver tells, and the GPUs are known without it."""
