# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gpufleet-mig as one file that a bare Python runs: the module_utils it needs, and pynvml.py.

The same sources give the same bytes wherever and whenever they are packed: nothing is compressed, because zlib's
versions differ, and no time is kept.
"""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "ansible_collections.gpufleet.mig.plugins.module_utils"
ENTRY = f"import sys\n\nfrom {PACKAGE}._cli import main\n\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a ZIP file can name."""


def pack(folder: Path, pynvml: Path, python: str) -> bytes:
    """The archive, from the folder module_utils of the collection and nvidia-ml-py's pynvml.py."""
    home = PurePosixPath(*PACKAGE.split("."))
    files = {"__main__.py": ENTRY.encode(), "pynvml.py": pynvml.read_bytes()}
    files.update({str(parent / "__init__.py"): b"" for parent in (home, *home.parents) if parent.name})
    files.update({str(home / f"{name}.py"): (folder / f"{name}.py").read_bytes() for name in needed(folder, "_cli")})
    packed = io.BytesIO()
    packed.write(f"#!{python} -I\n".encode())
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, whatever the controller is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    return packed.getvalue()


def needed(folder: Path, name: str) -> set[str]:
    """The module of that name and all that it imports from the folder."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting |= _imports(folder / f"{one}.py") - found
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            names.add(str(node.module).rsplit(".", 1)[1])
    return names
