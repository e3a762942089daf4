# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the inventory says something about: a variable that cannot be read is a mistake, not a silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("playbook", "variable"),
    [
        ("site", "mig_layout"),
        *(pytest.param(*case, marks=pytest.mark.full) for case in [
            ("site", "mig_strategy"),
            ("rollout", "mig_layout"),
            ("verify", "mig_layout"),
            ("report", "mig_layout"),
        ]),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_read_fails_its_host_before_anything_is_touched(
    tmp_path: Path, make_host: MakeHost, playbook: str, variable: str
) -> None:
    """Left alone with exit code 0, as if the inventory said nothing about it, is how this once went."""
    host = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    host.forget_calls()
    hosts = {
        "silent": {"ansible_host": "127.0.0.1", "ansible_port": 1},
        "right": {**on_this_machine(), "mig_layout": "all-1g.10gb"},
        "broken": {**on_this_machine(), variable: "{{ nowhere }}"},
    }
    if playbook == "report":
        del hosts["silent"]  # a report is about every host
    run = play(tmp_path, playbook, hosts, simulated=host)
    assert run.code == 2
    assert "fatal: [broken]: FAILED!" in run.printed
    assert "'nowhere' is undefined" in run.printed
    assert "fatal: [silent]" not in run.printed
    assert host.writes() == []


@pytest.mark.full
def test_what_a_playbook_gives_to_the_one_that_it_imports_is_said_too(tmp_path: Path) -> None:
    wrapper = tmp_path / "ours.yml"
    wanted = {"mig_layout": "all-3g.40gb", "mig_offline": True}
    wrapper.write_text(yaml.safe_dump([{"import_playbook": "gpufleet.mig.plan", "vars": wanted}]))
    run = play(tmp_path, str(wrapper), {"gpu-01": {"mig_gpus": [{"model": "h100-sxm5-80gb"}]}})
    assert run.code == 0, run.printed
    assert [(host["host"], host["status"]) for host in run.plan["hosts"]] == [("gpu-01", "changes")]
