# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gpufleet-mig as one file: the same bytes from the same sources, and nothing of Ansible in it."""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import pynvml

from ansible_collections.gpufleet.mig.plugins.module_utils import _archive

SOURCES = Path(_archive.__file__).parent
PYNVML = Path(pynvml.__file__)


def test_the_same_sources_give_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    elsewhere = tmp_path / "other" / "module_utils"
    shutil.copytree(SOURCES, elsewhere)
    for path in elsewhere.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o755 if path.is_dir() else 0o600)
    first = _archive.pack(SOURCES, PYNVML, "/usr/bin/python3")
    assert _archive.pack(elsewhere, PYNVML, "/usr/bin/python3") == first
    changed = elsewhere / "_boot.py"
    changed.write_bytes(changed.read_bytes() + b"# more\n")
    assert _archive.pack(elsewhere, PYNVML, "/usr/bin/python3") != first


def test_it_holds_the_collections_own_code_and_no_ansible() -> None:
    packed = zipfile.ZipFile(io.BytesIO(_archive.pack(SOURCES, PYNVML, "/usr/bin/python3")))
    assert packed.read("pynvml.py") == PYNVML.read_bytes()
    ours = [name for name in packed.namelist() if "/module_utils/_" in name and not name.endswith("__init__.py")]
    for name in ours:
        source = packed.read(name)
        assert source == (SOURCES / Path(name).name).read_bytes()
        assert not re.search(rb"^\s*(from|import) (ansible|kubernetes|jmespath|yaml)[. ]", source, re.MULTILINE), name
    assert {"_cli.py", "_apply.py", "_planner.py", "_nvml.py"} <= {Path(name).name for name in ours}
