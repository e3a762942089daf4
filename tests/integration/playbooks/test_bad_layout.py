# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout that a host cannot have: the run says why once, in one sentence, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play

pytestmark = pytest.mark.slow


def test_a_profile_that_the_gpu_does_not_have_is_said_once(tmp_path: Path, make_host: MakeHost) -> None:
    simulated = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    before = simulated.lines()
    here = {**on_this_machine(), "mig_kubernetes": False, "mig_layout": [{"gpus": 0, "instances": {"1g.5gb": 7}}]}
    run = play(tmp_path, "site", {"here": here}, simulated=simulated)
    assert run.code == 2, run.printed
    (said,) = [line for line in run.printed.splitlines() if line.startswith("[ERROR]")]
    assert said.count("GPU 0 (NVIDIA H100 80GB HBM3) has no profile '1g.5gb': did you mean 1g.10gb") == 1, said
    assert "failed: here: GPU 0" in said
    assert said.endswith("The layout entry 1 (gpus: 0) wants it. Nothing was changed."), said
    assert simulated.lines() == before
