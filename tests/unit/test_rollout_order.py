# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""rollout_order against an API server over real HTTP, and how well nodes are spread over zones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import Api, node, run_here

from ansible_collections.gpufleet.mig.plugins.module_utils._waves import batch_sizes, read_waves, spread

GPU, SMALL = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def add(api: Api, name: str, gpus: int = 8, zone: str = "", mark: dict[str, str] | None = None, **spec: Any) -> None:
    made = node(name, {GPU: gpus}, {ZONE: zone} if zone else None, **spec)
    made["metadata"]["annotations"] = mark or {}
    api.put(made)


def put(api: Api, *changes: Any, **params: Any) -> dict[str, Any]:
    """Changes are names of nodes, or pairs of name and what is offered afterwards."""
    pairs = [(each, {SMALL: 56}) if isinstance(each, str) else each for each in changes]
    wanted = [{"node": name, "after": after} for name, after in pairs]
    answer = run_here("rollout_order", kubeconfig=api.kubeconfig(), changes=wanted, **params)
    assert api.writes() == []
    return answer


def test_the_order_of_the_inventory_is_kept_and_cut_behind_a_canary(api: Api) -> None:
    for name in "abcdefgh":
        add(api, name)
    found = put(api, *"cabfed", max_unavailable=2, waves=[1, "50%", "100%"])
    assert (found["order"], found["waves"], found["batches"]) == (list("cabfed"), [1, 2, 3], [1, 2, 2, 1])
    assert put(api, *"cab")["batches"] == [1, 1, 1]
    assert put(api)["order"] == []


def test_a_share_of_the_fleet_counts_gpu_nodes_that_do_not_change(api: Api) -> None:
    for number in range(20):
        add(api, f"n{number}")
    api.put(node("web", {}))
    assert put(api, "n0", "n1", "n2", max_unavailable="10%", waves=["100%"])["batches"] == [2, 1]


def test_the_minimum_reorders(api: Api) -> None:
    """Only b gets whole GPUs, so it goes first: then a may lose its own."""
    add(api, "a", 8)
    add(api, "b", 0)
    changes = ("a", {SMALL: 56}), ("b", {GPU: 8})
    assert put(api, *changes)["order"] == ["a", "b"]
    assert put(api, *changes, min_available={GPU: 8})["order"] == ["b", "a"]


def test_a_minimum_that_no_order_holds_is_said_with_the_numbers(api: Api) -> None:
    add(api, "a")
    add(api, "b")
    answer = put(api, "a", "b", min_available={GPU: 8})
    assert answer["failed"]
    assert answer["msg"].startswith(f"No order of the 2 nodes keeps 8 {GPU} available: with b out there are 0.")
    assert answer["msg"].endswith("nothing was changed.")


def test_what_is_out_of_service_offers_nothing(api: Api) -> None:
    add(api, "a")
    add(api, "b")
    add(api, "c", unschedulable=True)
    assert put(api, ("a", {GPU: 8}), min_available={GPU: 8})["order"] == ["a"]
    assert "with a out there are 8" in put(api, ("a", {GPU: 8}), min_available={GPU: 9})["msg"]
    # c is somebody's cordon: it comes back as it was found, so it helps nobody afterwards
    assert "with a out there are 8" in put(api, ("c", {GPU: 8}), ("a", {GPU: 8}), min_available={GPU: 9})["msg"]


def test_what_an_earlier_run_left_comes_first_and_offers_again_afterwards(api: Api) -> None:
    for name in "abc":
        add(api, name)
    ours = {"gpufleet.io/run": "r1", "gpufleet.io/was-schedulable": "true"}
    add(api, "d", mark=ours, unschedulable=True)
    add(api, "e", mark={"gpufleet.io/phase": "done", "gpufleet.io/target": "x"})
    kept = [(name, {GPU: 8}) for name in "eabd"]
    found = put(api, *kept, max_unavailable=2, waves=[1, "100%"], min_available={GPU: 24})
    assert (found["order"], found["batches"]) == (list("deab"), [1, 2, 1])


def test_a_node_with_the_skip_label_is_in_no_wave(api: Api) -> None:
    for name in "abc":
        add(api, name)
    api.put(node("b", {GPU: 8}, {"gpufleet.io/skip": "ticket-815"}), node("c", {GPU: 8}, {"gpufleet.io/skip": "false"}))
    found = put(api, *"abc")
    assert (found["order"], found["waves"]) == (["a", "c"], [1, 1])
    assert found["skipped"] == {"b": "node b carries the label gpufleet.io/skip=ticket-815"}


def test_nodes_that_are_out_together_are_of_different_zones(api: Api) -> None:
    for name, zone in zip("abcdefg", "xxxyyzz"):
        add(api, name, zone=zone)
    plain: dict[str, Any] = {"max_unavailable": 2, "waves": [1, "100%"]}
    assert put(api, *"abcdefg", **plain)["order"] == list("abcdefg")
    zones = dict(zip("abcdefg", "xxxyyzz"))
    found = put(api, *"abcdefg", **plain, topology_key=ZONE)["order"]
    assert found[0] == "a"
    assert all(zones[one] != zones[two] for one, two in zip(found[1::2], found[2::2], strict=True))
    one_by_one = put(api, *"abcdefg", topology_key=ZONE)["order"]
    assert all(zones[one] != zones[two] for one, two in itertools.pairwise(one_by_one))


def test_a_misspelt_topology_key_is_no_silent_success(api: Api) -> None:
    add(api, "a", zone="x")
    answer = put(api, "a", topology_key="topology.kubernetes.io/zoen")
    assert "mig_topology_key is 'topology.kubernetes.io/zoen', and none of the 1 nodes" in answer["msg"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"waves": ["0%", "100%"]}, "mig_waves has '0%'; a gate is at least one node"),
        ({"waves": "all"}, "mig_waves is a list of gates"),
        ({"max_unavailable": 0}, "mig_max_unavailable is 0"),
        ({"min_available": {"gpu": 8}}, "mig_min_available says gpu: 8"),
        ({"min_available": 8}, "mig_min_available is 8"),
    ],
)
@pytest.mark.parametrize("changing", [[], ["a"]])
def test_a_setting_that_cannot_be_read_is_refused(
    api: Api, params: dict[str, Any], said: str, changing: list[str]
) -> None:
    add(api, "a")
    answer = put(api, *changing, **params)
    assert answer["failed"]
    assert answer["msg"].startswith(said)


def test_no_spread_is_better_than_the_one_found() -> None:
    """Against every permutation: batches without two of a zone, and neighbours where all batches are single nodes."""
    chance = random.Random(5)
    possible = 0
    for _case in range(400):
        zones = [chance.choice("xyz") for _node in range(chance.randint(1, 6))]
        sizes = batch_sizes(read_waves([1, "50%", "100%"], len(zones)), chance.randint(1, 3))
        alone = max(sizes) == 1
        cuts = list(itertools.accumulate(sizes, initial=0))

        def clashes(
            order: tuple[int, ...], cuts: list[int] = cuts, zones: list[str] = zones, alone: bool = alone
        ) -> bool:
            if alone:
                return any(zones[one] == zones[two] for one, two in itertools.pairwise(order))
            batches = [[zones[each] for each in order[begin:end]] for begin, end in itertools.pairwise(cuts)]
            return any(len(set(batch)) < len(batch) for batch in batches)

        found = spread(range(len(zones)), sizes, zones.__getitem__)
        assert sorted(found) == list(range(len(zones)))
        best = not all(map(clashes, itertools.permutations(range(len(zones)))))
        possible += best
        assert clashes(tuple(found)) != best
    assert 100 < possible < 400
