# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A careful person who types the commands of the plan gets what the plan says: nvidia-smi is the judge."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import SimulatedHost

from ansible_collections.gpufleet.mig.plugins.module_utils._changes import line
from ansible_collections.gpufleet.mig.plugins.module_utils._fleet_plan import plan_fleet
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

Entry = dict[str, Any]


def typed(host: SimulatedHost, steps: list[dict[str, str]]) -> None:
    """Type the commands one after the other; where an ID is asked for, it is the one that the last command printed."""
    said = ""
    for step in steps:
        command = step["command"]
        if "ID" in command.split():
            number = re.findall(r"GPU instance ID +(\d+)", said)[-1]
            command = command.replace(" ID", f" {number}")
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, env=host.environment, check=False)
        assert done.returncode == 0, (command, done.stdout)
        said = done.stdout


def follow(host: SimulatedHost, layout: Any) -> None:
    gpus = host.gpus()
    plan = plan_host(gpus, layout)
    (report,) = plan_fleet([{"host": "host", "gpus": gpus, "layout": layout, "kubernetes": False}])["hosts"]
    for part in report["gpus"]:
        assert bool(part["by_hand"]) == part["changes"]
        typed(host, part["by_hand"])
    assert host.lines() == [line(gpu) for gpu in plan["after"]]


def one_3g(*inside: str) -> dict[str, Any]:
    return {"profile": "3g.20gb", "compute_instances": list(inside)}


@pytest.mark.parametrize(
    "layouts",
    [
        ["all-1g.5gb", [{"gpus": 0, "instances": {"3g.20gb": 1, "1g.5gb": 3}}], "all-enabled", "all-disabled"],
        [
            [{"gpus": 0, "instances": [one_3g("1c.3g.20gb", "2c.3g.20gb")]}],
            [{"gpus": 0, "instances": [one_3g("1c.3g.20gb"), {"profile": "2g.10gb"}]}],
            [{"gpus": 0, "instances": [one_3g("3g.20gb"), {"profile": "4g.20gb", "compute_instances": []}]}],
            [{"gpus": 0, "instances": {"7g.40gb": 1}}],
        ],
    ],
)
def test_the_commands_lead_from_layout_to_layout(make_host: MakeHost, layouts: list[Any]) -> None:
    host = make_host("a100-sxm4-40gb")
    for layout in layouts:
        follow(host, layout)


def some_layout(rng: random.Random, profiles: list[Entry]) -> list[Entry]:
    """Instances at places that do not overlap, some of them cut into compute instances or left empty."""
    free, instances = set(range(16)), []
    for _try in range(rng.randint(0, 9)):
        row = rng.choice([row for row in profiles if "me" not in row["name"]])
        start = rng.choice(row["starts"])
        place = set(range(start, start + row["size"]))
        if place <= free:
            free -= place
            inside = rng.choice([None, None, [], [row["compute_profiles"][0]["name"]]])
            instances.append({"profile": row["name"], "start": start, "compute_instances": inside})
    return [{"gpus": 0, "mig": "enabled", "instances": instances}]


@pytest.mark.parametrize("product", ["a100-sxm4-80gb", "h100-sxm5-80gb", "a30"])
def test_the_commands_lead_from_any_layout_to_any_other(make_host: MakeHost, product: str) -> None:
    rng = random.Random(product)
    host = make_host({"product": product, "mig": "enabled"})
    for _round in range(8):
        follow(host, some_layout(rng, host.gpus()[0]["profiles"]))
