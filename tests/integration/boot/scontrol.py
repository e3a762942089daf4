# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scontrol of a Slurm with one node, for tests. Its state is one file in /run; a job is a process, by its pid."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FILE = Path("/run/slurm-node.json")
AWAY = Path("/run/slurm-away")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main(words: list[str]) -> int:
    if AWAY.exists():
        print("Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    node = json.loads(FILE.read_text())
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    if words[:3] == ["show", "node", node["name"]]:
        base = "ALLOCATED" if any(alive(pid) for pid in node["jobs"]) else "IDLE"
        state = f"{base}+DRAIN" if node["drained"] else base
        reason = f" Reason={node['reason']} [root@2026-11-25T12:00:00]" if node["reason"] else ""
        slurmd = Path("/run/systemd/active/slurmd.service")
        started = slurmd.stat().st_mtime_ns if slurmd.exists() else None
        print(
            f"NodeName={node['name']} Arch=x86_64 CPUAlloc=0 Gres=gpu:2 State={state} ThreadsPerCore=1 "
            f"SlurmdStartTime={started}{reason}"
        )
        return 0
    if words[:1] == ["update"] and settings.get("NodeName") == node["name"]:
        drain = {"DRAIN": True, "RESUME": False}[settings["State"]]
        if drain and not settings.get("Reason"):
            print("slurm_update error: Reason is required to drain", file=sys.stderr)
            return 1
        node.update(drained=drain, reason=settings.get("Reason", ""))
        node["history"].append(settings["State"])
        draft = FILE.with_suffix(".tmp")
        draft.write_text(json.dumps(node))
        draft.replace(FILE)
        return 0
    print("Node not found", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
