# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback rollout_progress: one line per node and phase of a roll-out, and all of it as JSON lines."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_progress
type: notification
short_description: Say how far a roll-out is
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Prints one line per node and phase, with the wave, the node's number, the time that has gone and an estimate of the
    time that is left, taken from the nodes that are done.
  - With O(path) every line that modules return under C(gpufleet) is appended to a file, one JSON object per line.
  - It only reads results. Where it fails it warns once and is off for the rest of the run.
requirements:
  - enabled by its full name, C(ANSIBLE_CALLBACKS_ENABLED=gpufleet.mig.rollout_progress)
options:
  path:
    description: File for JSON lines. Each is complete as soon as it is written, so it can be followed.
    type: path
    env:
      - name: GPUFLEET_ROLLOUT_PROGRESS_PATH
    ini:
      - section: callback_rollout_progress
        key: path
seealso:
  - module: gpufleet.mig.rollout_report
"""

import json
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.plugins.callback import CallbackBase

from ansible_collections.gpufleet.mig.plugins.module_utils._progress import Progress


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Ansible's way to find the callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "gpufleet.mig.rollout_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress()
        self._path: str | None = None

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        """Called by Ansible before the run."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._path = self.get_option("path")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that went well."""
        self._take(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002
        """One that did not: it has lines too, with blockers."""
        self._take(result)

    def _take(self, result: Any) -> None:
        try:
            # ansible-core 2.19 names them without underscore; the old names warn from 2.23 on.
            told = result.result if hasattr(result, "result") else result._result
            host = result.host if hasattr(result, "host") else result._host
            if told.get("_ansible_no_log") or "censored" in told:
                return
            for said in told.get("gpufleet") or ():
                self._say({"host": host.get_name(), **said, "node": said["node"] or host.get_name()})
        except Exception as error:
            # The run matters more than what is said of it.
            self.disabled = True
            self._display.warning(f"gpufleet.mig.rollout_progress is off from here on: {type(error).__name__}: {error}")

    def _say(self, said: Mapping[str, Any]) -> None:
        sentence = self._progress.feed(said, time.monotonic())
        if sentence is not None:
            self._display.display(sentence)
        if self._path:
            when = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            # Opened each time: a file that was rotated away meanwhile is made anew.
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps({"time": when, **said}) + "\n")
