# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-ctk on copies of a host's files: what it would write is known before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Files = dict[str, "str | None"]
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
OPEN_SETTING = "accept-nvidia-visible-devices-envvar-when-unprivileged"
_ENVIRONMENT = {"PATH": f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin", "LC_ALL": "C"}


def installed() -> bool:
    return shutil.which("nvidia-ctk", path=_ENVIRONMENT["PATH"]) is not None


def is_open() -> bool | None:
    """Whether NVIDIA's runtime gives an unprivileged container what its NVIDIA_VISIBLE_DEVICES names, requested or not.

    The toolkit's own default is yes. None on a host without the toolkit.
    """
    text = text_of(TOOLKIT_CONFIG)
    if text is None:
        return True if installed() else None
    said = re.findall(rf"^\s*{OPEN_SETTING}\s*=\s*(true|false)", text, re.MULTILINE)
    return said[-1:] != ["false"]


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
    """The files of runtime and toolkit as they should be; `drop_in` is empty for a runtime that has no such folder.

    For the runtime "none" only the toolkit's own file.
    """
    if runtime == "containerd" and not drop_in:
        # nvidia-ctk has it include the folder of the file, which here is that of a copy
        raise MigError("containerd takes what is added from a file of its own: name one in drop_in.")
    with tempfile.TemporaryDirectory(prefix="gpufleet-mig.") as folder:
        found: Files = {}
        if runtime != "none":
            options = [f"--runtime={runtime}", *(["--set-as-default"] if default else [])]
            found = _runtime_files(Path(folder), config, drop_in, [*options, *(["--enable-cdi"] if cdi else [])])
        toolkit = Path(folder, "toolkit")
        present = text_of(TOOLKIT_CONFIG)
        if present is not None:
            toolkit.write_text(present)
        sets = [word for key, value in sorted(settings.items()) for word in ("--set", f"{key}={value}")]
        source = [f"--config-file={toolkit}"] if present is not None else []
        _ctk("config", *source, *sets, f"--output={toolkit}.new")
        found[TOOLKIT_CONFIG] = text_of(f"{toolkit}.new")
        return {path: text for path, text in found.items() if text is not None}


def _runtime_files(folder: Path, config: str, drop_in: str, options: Sequence[str]) -> Files:
    main = folder / "config"
    extra = folder / "drop-in" / Path(drop_in).name if drop_in else None
    # The runtime is told to read the drop-in's folder: in the copy the copy's, afterwards the real one.
    real, scratch = (str(Path(drop_in).parent), str(extra.parent)) if extra else ("", "")
    present = text_of(config)
    if present is not None:
        main.write_text(present.replace(f"{real}/", f"{scratch}/") if extra else present)
    _ctk("runtime", "configure", f"--config={main}", f"--drop-in-config={extra or ''}", *options)
    found = {config: text_of(str(main))}
    if extra is not None:
        found[drop_in] = text_of(str(extra))
        found[config] = (found[config] or "").replace(f"{scratch}/", f"{real}/")
    return found


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
