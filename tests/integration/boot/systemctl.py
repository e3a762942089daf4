# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemctl of a host without systemd, for tests: it reads unit files, makes the links of [Install], runs ExecStart.

It knows what Ansible's systemd_service asks, and services of type oneshot and timers. What runs is kept in /run.
"""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

UNITS = Path("/etc/systemd/system")
ACTIVE = Path("/run/systemd/active")


def setting(unit: Path, section: str, key: str) -> str:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser.get(section, key, fallback="")


def state(name: str) -> str:
    kept = ACTIVE / name
    return kept.read_text() if kept.exists() else "inactive"


def link(unit: Path) -> Path:
    return UNITS / f"{setting(unit, 'Install', 'WantedBy')}.wants" / unit.name


def shown(unit: Path) -> str:
    loaded = "loaded" if unit.exists() else "not-found"
    enabled = "enabled" if unit.exists() and link(unit).is_symlink() else "disabled"
    settings = {"LoadState": loaded, "ActiveState": state(unit.name), "UnitFileState": enabled, "FragmentPath": unit}
    return "\n".join(f"{key}={value}" for key, value in {"Id": unit.name, **settings}.items())


def start(unit: Path) -> int:
    code = 0
    if unit.suffix == ".service":
        condition = setting(unit, "Unit", "ConditionPathExists")
        if condition and not Path(condition).exists():
            return 0
        done = subprocess.run(shlex.split(setting(unit, "Service", "ExecStart")), check=False)
        good = {0, *(int(one) for one in setting(unit, "Service", "SuccessExitStatus").split())}
        code = 0 if done.returncode in good else 1
    ACTIVE.mkdir(exist_ok=True)
    (ACTIVE / unit.name).write_text("failed" if code else "active")
    return code


def main(words: list[str]) -> int:
    verb, *names = [word for word in words if not word.startswith("-")]
    if verb == "daemon-reload":
        return 0
    name = names[0].rstrip("*")
    unit = UNITS / name
    if verb == "show":
        print("\n\n".join(shown(UNITS / each) for each in [name, *names[1:]]))
        return 0
    if verb == "is-active":
        print(state(name))
        return 0 if state(name) == "active" else 3
    if verb == "is-enabled":
        enabled = unit.exists() and link(unit).is_symlink()
        print("enabled" if enabled else "disabled")
        return 0 if enabled else 1
    if verb == "list-unit-files":
        print(name if unit.exists() else "")
        return 0
    if verb == "enable":
        link(unit).parent.mkdir(exist_ok=True)
        link(unit).symlink_to(unit)
        return 0
    if verb == "disable":
        link(unit).unlink()
        return 0
    if verb == "stop":
        (ACTIVE / name).unlink(missing_ok=True)
        return 0
    if verb in ("start", "restart"):
        return start(unit)
    print(f"systemctl of the tests does not know {verb}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
