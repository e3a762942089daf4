# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a change in progress, and the lock that keeps two changes of one host apart.

The journal says what stood and what was wanted while a change goes on. It is no state: the next run reads the hardware.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

DEFAULT_PATH = "/var/lib/gpufleet-mig/journal.json"


class Journal:
    """One file; its folder is the root user's alone."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other changes of this host away. The kernel gives the lock back however this process ends."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MigError(
                    "Another run is changing the GPUs of this host right now (it holds "
                    f"{self.path.with_suffix('.lock')}). Nothing was changed; run this again when that one has ended."
                ) from None
            yield
        finally:
            os.close(handle)

    def read(self) -> dict[str, Any] | None:
        """What a run that did not end left behind; None where there is nothing."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        return content if isinstance(content, dict) else {"unreadable": True}

    def write(self, gpus: list[dict[str, Any]]) -> None:
        """Put on disk, for certain, what stood on each GPU and what it is to become."""
        content = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "pid": os.getpid(), "gpus": gpus}
        draft = self.path.with_suffix(".tmp")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(content))  # json.dump and an indent take the encoder in Python
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            self._sync_folder()
        except OSError as error:
            raise self._unusable(error) from None

    def remove(self) -> None:
        """The change has ended and was checked."""
        try:
            self.path.unlink()
            self._sync_folder()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise MigError(f"The GPUs are as wanted, but the journal {self.path} cannot be removed: {error}.") from None

    def _sync_folder(self) -> None:
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _unusable(self, error: OSError) -> MigError:
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            return MigError("The GPUs of this host can only be changed by root: run this as root (become: true).")
        return MigError(
            f"The journal {self.path}, without which a change could not be undone, cannot be written: {error}. "
            "Nothing was changed; let root write there, and see that the disk has room."
        )


def left_behind(content: dict[str, Any]) -> str:
    """The sentence about a journal of a run that did not end."""
    if content.get("unreadable"):
        return "An earlier change did not end, and its journal cannot be read. This run goes by the hardware as it is."
    indices = ", ".join(str(gpu.get("index")) for gpu in content.get("gpus", ()))
    return (
        f"An earlier change of GPU {indices}, begun at {content.get('started')}, did not end: it was killed or could "
        "not be undone. This run goes by the hardware as it is."
    )
