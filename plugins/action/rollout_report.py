# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action rollout_report: what is to be done on a controller costs no module process there, so this is an action."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version

from ansible_collections.gpufleet.mig.plugins.module_utils import _rollout_report
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    "output": {"type": "str", "default": ""},
    "run": {"type": "str", "required": True},
    "order": {"type": "dict", "options": {"hosts": {"type": "list", "elements": "str"}, "waves": {"type": "raw"}}},
    "record": {"type": "dict"},
    "phase": {"type": "str"},
    "details": {"type": "dict", "default": {}},
    "evicting": {"type": "list", "elements": "str", "default": []},
    "records": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Ansible's way to find the action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """One step of one node's record, and the files."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(ARGUMENT_SPEC)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        host = str((task_vars or {})["inventory_hostname"])
        records = args["records"]
        try:
            record = _step(host, args, now)
        except MigError as error:
            raise AnsibleActionFail(str(error)) from error
        result["gpufleet"] = []
        if record is not None:
            records = [*records, record]
            result["gpufleet"] = [_rollout_report.line(record, args["evicting"])]
            result["record"] = record
        if args["output"] and records and not self._task.check_mode:
            try:
                _write(Path(args["output"]).expanduser(), args["run"], records, now)
            except OSError as error:
                said = f"The report of the roll-out cannot be written to {args['output']}: {error}"
                if record is None:
                    raise AnsibleActionFail(f"{said}. No node was touched.") from error
                # In the middle of a node its change matters more than its report.
                result["warnings"] = [said]
        return result


def _step(host: str, args: Mapping[str, Any], now: str) -> dict[str, Any] | None:
    if args["order"]:
        record = _rollout_report.begin(host, args["order"]["hosts"], args["order"]["waves"], now)
        return _rollout_report.enrich(record, args["details"])
    if args["record"] is None:
        return None
    return _rollout_report.advance(args["record"], args["phase"], args["details"], now)


def _write(folder: Path, run: str, records: list[dict[str, Any]], now: str) -> None:
    """Nodes of one batch write at the same time, so the file has what the others said."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        known = {record["host"]: record for record in _known(folder / "rollout.json", run)}
        known.update((record["host"], record) for record in records)
        versions = {"gpufleet.mig": _version(), "ansible-core": ansible_version}
        report = _rollout_report.document({"run": run, "versions": versions}, known.values(), now)
        _replace(folder / "rollout.json", json.dumps(report, indent=2) + "\n")
        _replace(folder / "rollout.md", _rollout_report.markdown(report))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _known(path: Path, run: str) -> list[dict[str, Any]]:
    """The records of this run so far; what an earlier run wrote there is replaced."""
    try:
        report = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return []
    return list(report["nodes"]) if isinstance(report, dict) and report.get("run") == run else []


def _replace(path: Path, content: str) -> None:
    """Whoever reads it meanwhile, or after a kill, sees the old or the new file as a whole. Only its owner may."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _version() -> str:
    """Of the collection: an installed one has a manifest, a checkout galaxy.yml."""
    root = Path(__file__).resolve().parents[2]
    manifest = root / "MANIFEST.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text())["collection_info"]["version"])
    found = re.search(r"^version: *(\S+)", (root / "galaxy.yml").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"
