# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a host that appear whole, with the mode and owner of what they replace."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


def put(module: Any, path: str, text: str | None) -> None:
    """Write a text file through the module's atomic move (0644 where it is new); None removes it."""
    target = Path(path)
    if text is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    new = not target.exists()
    module.atomic_move(scratch, path)
    if new:
        target.chmod(0o644)
