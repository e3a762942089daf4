# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that cannot be asked stops every playbook that changes something, with host, remedy and what was done."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play

pytestmark = pytest.mark.slow

MODELS = {
    "triton_model_repository": {"pvc": {"claimName": "models"}},
    "triton_groups": [{"name": "a", "resource": "nvidia.com/gpu"}],
}


@pytest.mark.parametrize(
    ("playbook", "nothing"),
    [
        ("rollback", "changed"),
        pytest.param("adopt", "changed", marks=pytest.mark.full),
        pytest.param("uninstall", "changed", marks=pytest.mark.full),
        pytest.param("serve", "deployed", marks=pytest.mark.full),
        pytest.param("site", "changed", marks=pytest.mark.full),
    ],
)
def test_a_kubeconfig_that_is_missing_is_told_before_anything_changes(
    tmp_path: Path, make_host: MakeHost, playbook: str, nothing: str
) -> None:
    simulated = make_host({"product": "a100-sxm4-40gb", "mig": "enabled"})
    before = simulated.lines()
    answers = ("-e", "mig_rollback_all=true", "-e", "mig_confirm_uninstall=true", "-e", "mig_uninstall_layout=true")
    variables = {"mig_kubernetes": True, "mig_kubeconfig": "/no/such", "mig_layout": "all-balanced"}
    here = {**on_this_machine(), **variables, **MODELS}
    run = play(tmp_path, playbook, {"here": here}, *answers, simulated=simulated)
    assert run.code == 2, run.printed
    assert (
        "here: Kubeconfig /no/such (from the kubeconfig option) does not exist on the machine that runs this module: "
        f"set kubeconfig (mig_kubeconfig) to one that can be used. Nothing was {nothing}."
    ) in " ".join(run.printed.split()), run.printed
    assert simulated.lines() == before
    assert not (tmp_path / "host_vars").exists()
