# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Mistakes in an inventory: a clear sentence, and nothing touched on any host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import DEMO_HOSTS, PlayResult, on_host, play, publisher_pods

A100 = "a100-mixed"


def mistaken(words: list[str], *limit: str, **variables: Any) -> str:
    """Run site.yml with a mistake; the run must fail with these words, and have written nothing to any GPU."""
    hosts = limit[1].split(",") if limit else DEMO_HOSTS
    for host in hosts:
        on_host(host, "simctl", "clear-log")
    before = publisher_pods()
    result = play("site.yml", *limit, "-e", json.dumps(variables), check=False)
    said = " ".join(result.output.split())
    assert result.rc != 0
    for word in words:
        assert word in said, result.output[-4000:]
    for host in hosts:
        assert on_host(host, "simctl", "log", "--writes").strip() == ""
    assert publisher_pods() == before
    return said


def entry(gpus: Any = "all", **more: Any) -> list[dict[str, Any]]:
    return [{"gpus": gpus, **more}]


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (["has no profile", "3g.99gb", "did you mean"], entry(instances={"3g.99gb": 1})),
        (
            ["a100-mixed", "they need 9 of its 8 memory slices", "nearest that fits: 2 x 3g.20gb"],
            entry(instances={"3g.20gb": 2, "1g.5gb": 1}),
        ),
        (["hits no GPU"], entry({"model": "H200*"}, instances={"1g.18gb": 7})),
        (["GPU 0 is selected twice"], [*entry(0, mig="enabled"), *entry("0-0", mig="disabled")]),
        (["mig: disabled", "remove one of the two"], entry(mig="disabled", instances={"1g.5gb": 7})),
    ],
    ids=["unknown profile", "does not fit", "selector hits nothing", "selected twice", "instances without MIG"],
)
def test_a_wrong_layout_stops_the_whole_fleet(converged: PlayResult, words: list[str], layout: Any) -> None:
    """The other hosts are right and stay untouched all the same: the fleet is checked first."""
    mistaken(words, "--limit", f"{A100},a100-none", mig_layout=layout)


def test_single_with_unlike_instances_is_refused(converged: PlayResult) -> None:
    mistaken(
        ["a100-mixed", "mig_strategy single", "more than one MIG device type"], "--limit", A100, mig_strategy="single"
    )


def test_a_strategy_that_does_not_exist_is_refused(converged: PlayResult) -> None:
    mistaken(["mig_strategy", "bogus", "none, single, mixed"], "--limit", A100, mig_strategy="bogus")


def test_a_missing_kubeconfig_is_told(converged: PlayResult) -> None:
    mistaken(["/no/such/kubeconfig"], "--limit", A100, mig_kubeconfig="/no/such/kubeconfig")


def test_a_missing_helm_is_told(converged: PlayResult) -> None:
    mistaken(["/no/such/helm"], "--limit", A100, mig_helm_binary="/no/such/helm")


def test_a_host_that_is_no_node_is_told(converged: PlayResult) -> None:
    mistaken(["no node ghost", "mig_node_name", "mig_kubernetes"], "--limit", A100, mig_node_name="ghost")


def test_a_host_outside_kubernetes_needs_neither_helm_nor_kubeconfig(converged: PlayResult) -> None:
    result = play(
        "site.yml", "--limit", A100, "-e",
        json.dumps({"mig_kubernetes": False, "mig_kubeconfig": "/no", "mig_helm_binary": "/no"}),
    )  # fmt: skip
    assert "in no cluster; verified" in result.output
    assert not result.changed()


def test_chart_values_that_would_undo_the_strategy_are_refused(converged: PlayResult) -> None:
    mistaken(["mig_chart_values", "use mig_strategy"], "--limit", A100, mig_chart_values={"migStrategy": "single"})


def with_host(folder: Path, name: str, **variables: Any) -> tuple[str, str]:
    """One more host beside those of the demo, at an address where nobody answers."""
    inventory = folder / "more.json"
    inventory.write_text(json.dumps({"all": {"hosts": {name: {"ansible_host": "10.77.0.99", **variables}}}}))
    return "-i", str(inventory)


def test_one_host_that_does_not_answer_stops_the_run_before_the_others_change(
    converged: PlayResult, tmp_path: Path
) -> None:
    dead = with_host(tmp_path, "gpu-dead", mig_layout="all-disabled")
    on_host(A100, "simctl", "clear-log")
    result = play(
        "site.yml", *dead, "--limit", f"gpu-dead,{A100}", "-e", json.dumps({"mig_layout": "all-1g.5gb"}), check=False
    )
    assert result.rc != 0
    assert re.search(r"gpu-dead.*UNREACHABLE.*10\.77\.0\.99", result.output, re.DOTALL), result.output[-3000:]
    assert on_host(A100, "simctl", "log", "--writes").strip() == ""


def test_a_host_that_the_inventory_says_nothing_about_is_not_even_reached(
    converged: PlayResult, tmp_path: Path
) -> None:
    """Control-plane nodes and the like often stand in the same inventory."""
    result = play("site.yml", *with_host(tmp_path, "control-plane"), "--limit", f"control-plane,{A100}")
    assert not result.changed()
    assert "UNREACHABLE" not in result.output


def test_verify_names_the_instances_that_differ(converged: PlayResult) -> None:
    layout = [{"gpus": "all", "instances": {"3g.20gb": 2}}]
    result = play("playbooks/verify.yml", "--limit", A100, "-e", json.dumps({"mig_layout": layout}), check=False)
    assert result.rc == 2
    said = " ".join(result.output.split())
    assert re.search(r"a100-mixed: GPU 0 has (\S+, )?2g\.10gb@\d(, \S+)? and lacks 3g\.20gb@\d", said), said[-3000:]
