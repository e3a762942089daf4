# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role verify where others use it: site.yml runs it also after something has failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play

pytestmark = pytest.mark.slow

NO_CLUSTER = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none"}}],
    "current-context": "none",
}
FAILS_FIRST = [
    {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "tasks": [
            {
                "block": [{"fail": {"msg": "what went wrong first"}, "when": "inventory_hostname == 'one'"}],
                "always": [{"include_role": {"name": "gpufleet.mig.verify"}}],
            }
        ],
    }
]


def test_after_a_failure_the_cluster_is_compared_all_the_same(tmp_path: Path, make_host: MakeHost) -> None:
    """Every host has failed then, by any_errors_fatal, and the first is none of those that have not."""
    (tmp_path / "kubeconfig").write_text(json.dumps(NO_CLUSTER))
    (tmp_path / "fails.yml").write_text(yaml.safe_dump(FAILS_FIRST))
    host = make_host({"product": "h100-sxm5-80gb", "mig": "disabled"})
    variables = {**on_this_machine(), "mig_kubernetes": True, "mig_kubeconfig": str(tmp_path / "kubeconfig")}
    run = play(tmp_path, str(tmp_path / "fails.yml"), {"one": variables, "two": variables}, simulated=host)
    assert run.code == 2
    assert "what went wrong first" in run.printed
    assert "Kubernetes API at http://127.0.0.1:1" in " ".join(run.printed.split()), run.printed
