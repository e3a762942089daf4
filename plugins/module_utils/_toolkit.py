# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-ctk on copies of a host's files: what it would write is known before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Files = dict[str, "str | None"]
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
_ENVIRONMENT = {"PATH": f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin", "LC_ALL": "C"}


def installed() -> bool:
    return shutil.which("nvidia-ctk", path=_ENVIRONMENT["PATH"]) is not None


def _ctk(*words: str) -> None:
    done = subprocess.run(
        ["nvidia-ctk", "--quiet", *words],
        capture_output=True, text=True, check=False, env={**os.environ, **_ENVIRONMENT}, timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        raise MigError(f"nvidia-ctk {' '.join(words[:2])} failed: {(done.stderr or done.stdout).strip()[-800:]}")


def text_of(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None


def configured(runtime: str, config: str, drop_in: str, settings: Mapping[str, str], default: bool, cdi: bool) -> Files:
    """The files of runtime and toolkit as they should be; `drop_in` is empty for a runtime that has no such folder."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-mig.") as folder:
        main, toolkit = Path(folder, "config"), Path(folder, "toolkit")
        extra = Path(folder, "drop-in", Path(drop_in).name) if drop_in else None
        # The runtime is told to read the drop-in's folder: in the copies the copy's, afterwards the real one.
        real, scratch = (str(Path(drop_in).parent), str(extra.parent)) if extra else ("", "")
        for copy, original in ((main, config), (toolkit, TOOLKIT_CONFIG)):
            present = text_of(original)
            if present is not None:
                copy.write_text(present.replace(f"{real}/", f"{scratch}/") if extra else present)
        words = [f"--runtime={runtime}", f"--config={main}", f"--drop-in-config={extra or ''}"]
        words += ["--set-as-default"] if default else []
        words += ["--enable-cdi"] if cdi else []
        _ctk("runtime", "configure", *words)
        sets = [word for key, value in sorted(settings.items()) for word in ("--set", f"{key}={value}")]
        source = [f"--config-file={toolkit}"] if toolkit.exists() else []
        _ctk("config", *source, *sets, f"--output={toolkit}.new")
        found: Files = {config: text_of(str(main)), TOOLKIT_CONFIG: text_of(f"{toolkit}.new")}
        if extra is not None:
            found[drop_in] = text_of(str(extra))
            found[config] = (found[config] or "").replace(f"{scratch}/", f"{real}/")
        return {path: text for path, text in found.items() if text is not None}


def cdi_specification() -> str | None:
    """The specification of the devices that are there now, None where MIG is on everywhere and there is no instance."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-mig.") as folder:
        try:
            _ctk("cdi", "generate", f"--output={folder}/nvidia.yaml")
        except MigError as error:
            if "empty device edits" in str(error) or "invalid spec, no devices" in str(error):
                return None
            raise
        return Path(folder, "nvidia.yaml").read_text()


class Memory:
    """What stood in files before they were first written, so that it can be put back."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        text = text_of(path)
        self.files: dict[str, dict[str, str | None]] = json.loads(text) if text else {}

    def remember(self, before: Files, after: Files) -> None:
        for path, text in after.items():
            known = self.files.setdefault(path, {"before": before[path], "written": None})
            known["written"] = _digest(text)
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.files, indent=1))

    def restored(self) -> Files:
        """MigError where somebody else has written since: it would be lost."""
        foreign = [path for path, known in self.files.items() if _digest(text_of(path)) != known["written"]]
        if foreign:
            raise MigError(
                f"{', '.join(foreign)} was changed by others since this collection wrote it, and putting back what "
                f"stood before would lose that. Take the NVIDIA runtime out by hand, then remove {self.path}."
            )
        return {path: known["before"] for path, known in self.files.items()}


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def differing(files: Mapping[str, str | None]) -> Sequence[str]:
    return [path for path, text in files.items() if text_of(path) != text]
