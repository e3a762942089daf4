# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What stood on a node before a roll-out comes back, to the place, and the run says what the inventory lacks."""

from __future__ import annotations

import json
from pathlib import Path

from lab.conftest import PlayResult, allocatable, kubectl_json, on_host, play
from lab.test_rollout import MOVED, NODE


def instances() -> list[str]:
    """Profile and place of every instance, as nvidia-smi lists them."""
    rows = [line.strip("| ").split() for line in on_host(NODE, "nvidia-smi", "mig", "-lgi").splitlines()]
    return [f"GPU {row[0]} {row[2]} at {row[-1]}" for row in rows if len(row) > 4 and row[1] == "MIG"]


def test_a_rollback_puts_back_what_stood_before_and_says_what_differs(converged: PlayResult, tmp_path: Path) -> None:
    before, offered = instances(), allocatable(NODE)
    assert len(before) > 10
    play("playbooks/rollout.yml", "--limit", NODE, "-e", json.dumps({"mig_layout": MOVED}))
    moved = instances()
    assert moved != before

    result = play("playbooks/rollback.yml", "--limit", NODE, "-e", f"mig_rollout_output={tmp_path}")

    assert instances() == before
    assert allocatable(NODE) == offered
    assert set(result.changed()) <= {NODE}
    assert "the inventory says something else" not in result.output, "it is as the inventory says again"
    node = kubectl_json("get", "node", NODE)
    assert "unschedulable" not in node["spec"]
    previous = json.loads(node["metadata"]["annotations"]["gpufleet.io/previous"])
    assert next(entry for entry in previous["layout"] if entry["gpus"] == [1, 4])["instances"] == [
        {"profile": "3g.40gb", "start": 0},
        {"profile": "3g.40gb", "start": 4},
    ]
    (record,) = json.loads((tmp_path / "rollout.json").read_text())["nodes"]
    assert (record["state"], record["evicted"], record["drift"]) == ("done", [], [])
    assert record["allocatable"]["after"]["nvidia.com/mig-1g.10gb"] == offered["nvidia.com/mig-1g.10gb"]
