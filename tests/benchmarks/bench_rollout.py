# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GPU of eight is cut anew on a node with eight running pods: how long what was away, seen from outside.

Needs the lab with its demo (make demo); without it, it says so and measures nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

from benchmarks.figures import figure
from lab.conftest import LAB, kubectl, kubectl_json, play
from lab.looking import looked
from lab.test_rollout import MOVED, NODE, workload

PODS = 8


def state(node: dict[str, Any]) -> dict[str, Any]:
    offered = {key: int(n) for key, n in node["status"]["allocatable"].items() if key.startswith("nvidia.com/mig-")}
    return {"cordoned": bool(node["spec"].get("unschedulable")), "offered": offered}


def seconds(seen: list[tuple[float, dict[str, Any]]], away: Any) -> float:
    """For how long `away` held, by looks ten times a second."""
    return sum(after - before for (before, then), (after, _now) in pairwise(seen) if away(then))


def running() -> set[str]:
    pods = kubectl_json("get", "pods", "-l", "app=holders", "--field-selector", "status.phase=Running")["items"]
    return {pod["metadata"]["uid"] for pod in pods}


def main() -> int:
    if not (LAB / "kubeconfig").exists():
        print("bench_rollout: the lab is not running (make demo): nothing was measured.", file=sys.stderr)
        return 0
    play("site.yml", "--limit", NODE)
    apply = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(LAB / "kubeconfig"), "apply", "-f", "-"]
    subprocess.run(apply, input=json.dumps(workload(PODS)), text=True, check=True, capture_output=True)
    try:
        kubectl("rollout", "status", "deployment/holders", "--timeout=90s")
        before = running()
        with looked(f"/api/v1/nodes/{NODE}", state) as seen:
            result = play("playbooks/rollout.yml", "--limit", NODE, "-e", json.dumps({"mig_layout": MOVED}))
        if result.recap[NODE]["changed"] == 0:
            raise SystemExit("nothing was changed: there is nothing to measure")
        first, last = seen[0][1]["offered"], seen[-1][1]["offered"]
        figure("roll-out, 1 of 8 GPUs: node cordoned", seconds(seen, lambda at: at["cordoned"]), "s")
        for key in sorted(key for key in first if first[key] and last.get(key)):
            gone = seconds(seen, lambda at, key=key: at["offered"].get(key, 0) == 0)
            figure(f"roll-out, 1 of 8 GPUs: {key} not offered", gone, "s", held=first[key], after=last[key])
        figure(f"roll-out, 1 of 8 GPUs: pods of {PODS} that went", len(before - running()), "")
    finally:
        kubectl("delete", "deployment", "holders", "--ignore-not-found", "--cascade=foreground", "--wait=true")
        play("site.yml", "--limit", NODE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
