# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes one JSON line per task that ran, with its seconds from start to result, to $TASK_SECONDS."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_seconds
type: notification
short_description: How long each task took
description: [One host at a time.]
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """For benchmarks, which name the file in the environment."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0.0

    def v2_playbook_on_task_start(self, *_: Any, **__: Any) -> None:
        self.begun = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        line = {"action": result.task.action, "seconds": time.perf_counter() - self.begun}
        with Path(os.environ["TASK_SECONDS"]).open("a") as lines:
            lines.write(json.dumps(line) + "\n")
