# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gpufleet-mig as one file that a bare Python runs: the module_utils it needs, and pynvml.py.

The same sources give the same bytes wherever and whenever they are packed: nothing is compressed, because zlib's
versions differ, and no time is kept.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import re
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "ansible_collections.gpufleet.mig.plugins.module_utils"
ENTRY = f"""\
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path

archive = Path(sys.path[0])
key = sha256(archive.read_bytes() + importlib.util.MAGIC_NUMBER).hexdigest().encode()
compiled = archive.with_suffix(".compiled")
if compiled.exists() and compiled.read_bytes()[-len(key) :] == key:
    sys.path.insert(0, str(compiled))

from {PACKAGE}._cli import main

sys.exit(main(archive, compiled, key))
"""
"""Python keeps no compiled code of what it runs from a ZIP file, and compiling takes longer than all else at boot. So
the command `compile` keeps it beside, marked at its end with the archive and the Python that it is good for."""
IMPORT = re.compile(rf"^\s*from {re.escape(PACKAGE)}(?:\.(\w+))? import (\([^)]*\)|[^\n]*)", re.MULTILINE)
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


def compile_beside(archive: Path, compiled: Path, key: bytes) -> None:
    """Write what this Python makes of the archive's sources."""
    # flags 1: neither the time nor the bytes of the source are looked at (PEP 552)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    draft = compiled.with_suffix(".tmp")
    with zipfile.ZipFile(archive) as packed, zipfile.ZipFile(draft, "w") as written:
        written.comment = key
        for name in packed.namelist():
            if name != "__main__.py":
                code = compile(packed.read(name), f"{archive}/{name}", "exec", dont_inherit=True)
                written.writestr(f"{name}c", head + marshal.dumps(code))
    draft.replace(compiled)


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
    """By the lines that import: to parse all sources takes longer than a host that is right takes."""
    names: set[str] = set()
    for submodule, what in IMPORT.findall(path.read_text("utf-8")):
        names |= {submodule} if submodule else set(re.findall(r"\w+", what))
    return names
