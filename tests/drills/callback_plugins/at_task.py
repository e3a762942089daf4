# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Runs a command when ansible-playbook reaches a task, once and synchronously: the drills' faults come on time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: at_task
type: notification
short_description: A fault at an exact point of a run
description:
  - Reads DRILL_TASK (regex of a task name), DRILL_WHEN (begins or runs), DRILL_COMMAND (shell; PLAYBOOK is our pid).
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """DRILL_WHEN=begins: before the task is sent to its hosts; runs: a worker has it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._done = "DRILL_COMMAND" not in os.environ

    def v2_playbook_on_task_start(self, task: Any, **_: Any) -> None:
        self._act("begins", task)

    def v2_runner_on_start(self, _host: Any, task: Any) -> None:
        self._act("runs", task)

    def _act(self, when: str, task: Any) -> None:
        if self._done or os.environ["DRILL_WHEN"] != when or not re.search(os.environ["DRILL_TASK"], task.get_name()):
            return
        self._done = True
        command = os.environ["DRILL_COMMAND"]
        self._display.display(f"DRILL: {task.get_name()} {when}: {command}")
        sys.stdout.flush()  # what Ansible has printed into a pipe so far would be lost with a killed process
        subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "PLAYBOOK": str(os.getpid())})
