# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook of the collection as a user runs it, on an inventory that a test writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from integration.modules.simulated_host import SimulatedHost, own_etc

ROOT = Path(__file__).resolve().parents[3]


class Run(NamedTuple):
    """Exit code, what was printed, and plan.json where it was written."""

    code: int
    printed: str
    plan: dict[str, Any]


def on_this_machine() -> dict[str, Any]:
    """Connection variables of a host that is the simulated one here."""
    return {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "mig_kubernetes": False,
        "mig_install_pynvml": False,
    }


def play(
    folder: Path,
    playbook: str,
    hosts: dict[str, dict[str, Any]],
    *options: str,
    simulated: SimulatedHost | None = None,
    **everywhere: Any,
) -> Run:
    """Run gpufleet.mig.PLAYBOOK, or a file; what it would leave in /var/lib and /etc stays in mounts of its own."""
    inventory = folder / "inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": everywhere}}))
    output = folder / "output"
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_RETRIES": "0",
    }
    ansible = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(inventory),
        playbook if playbook.endswith(".yml") else f"gpufleet.mig.{playbook}",
    ]
    own = f'mount -t tmpfs none /var/lib && {own_etc("/var/lib")} && exec "$@"'
    alone = ["unshare", "--mount", "sh", "-c", own, "sh"] if simulated else []
    done = subprocess.run(
        [*alone, *ansible, "-e", f"mig_plan_output={output}", *options],
        capture_output=True,
        text=True,
        env={**(simulated.environment if simulated else os.environ), **settings},
        cwd=ROOT,
        check=False,
    )
    written = output / "plan.json"
    plan = json.loads(written.read_text()) if written.exists() else {}
    return Run(done.returncode, done.stdout + done.stderr, plan)
