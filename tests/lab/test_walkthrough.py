# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The walk-through prints what the demo's inventory promises, and docs/ shows what it prints today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.conftest import ROOT, PlayResult, kubectl, on_host, play
from lab.test_demo import ALLOCATABLE, LABELS

NODES = {"none": "a100-none", "single": "a100-single", "mixed": "a100-mixed"}


@pytest.fixture(scope="module")
def pages(converged: PlayResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("walkthrough")
    play("playbooks/demo_strategies.yml", "-e", f"mig_walkthrough_output={folder}")
    return {strategy: (folder / f"{strategy}.md").read_text() for strategy in NODES}


def output(page: str, command: str) -> str:
    """What stands below a command that begins so, up to the next command or paragraph."""
    (found,) = re.findall(rf"^    \$ {re.escape(command)}.*\n((?:    [^$].*\n?)*)", page, re.MULTILINE)
    return str(found)


def sees(page: str) -> dict[str, list[str]]:
    """UUIDs by pod: of its MIG devices, or of its whole GPU."""
    seen: dict[str, list[str]] = {}
    for pod, line in re.findall(r"\[pod/(\S+)/main\] (.*)", output(page, "kubectl logs")):
        seen.setdefault(pod, []).extend(re.findall(r"UUID: ((?:MIG|GPU)-[^)]+)", line))
    return {pod: [each for each in uuids if each.startswith("MIG-")] or uuids for pod, uuids in seen.items()}


def forgotten(page: str) -> set[str]:
    """Keys of layouts that the node had before: of these the kubelet keeps the capacity for some minutes."""
    return set(re.findall(r"^ +(nvidia\.com/\S+): +0$", page, re.MULTILINE))


@pytest.mark.parametrize("strategy", NODES)
def test_the_node_offers_what_was_planned(pages: dict[str, str], strategy: str) -> None:
    described = output(pages[strategy], "kubectl describe node")
    gone = forgotten(described)
    for part in re.split(r"^\s+(?=Capacity|Allocatable)", described, flags=re.MULTILINE)[1:]:
        counts = {key: int(count) for key, count in re.findall(r"(nvidia\.com/\S+):\s+(\d+)", part) if int(count)}
        assert {key: count for key, count in counts.items() if key not in gone} == ALLOCATABLE[NODES[strategy]]
    labels = dict(re.findall(r"nvidia\.com/(\S+?)=(\S*)", output(pages[strategy], "kubectl get node")))
    assert LABELS[NODES[strategy]].items() <= labels.items()


def test_pods_see_one_device_each_of_those_on_the_host(pages: dict[str, str]) -> None:
    listed = {strategy: on_host(node, "nvidia-smi", "-L") for strategy, node in NODES.items()}
    instances = {strategy: re.findall(r"UUID: (MIG-[^)]+)", text) for strategy, text in listed.items()}

    single = sees(pages["single"])
    assert sorted(single) == [f"mig-single-example-{number}" for number in range(1, 8)]
    assert sorted(single.values()) == sorted([uuid] for uuid in instances["single"])

    assert sees(pages["none"]) == {"mig-none-example": re.findall(r"UUID: (GPU-[^)]+)", listed["none"])}

    (small,) = re.findall(r"MIG 1g\.5gb .*UUID: (MIG-[^)]+)", listed["mixed"])
    assert sees(pages["mixed"]) == {"mig-mixed-example": [small]}


def test_nothing_of_it_stays(pages: dict[str, str]) -> None:
    assert "example" not in kubectl("get", "pods", "-o", "name")


@pytest.mark.parametrize("strategy", NODES)
def test_the_pages_in_docs_are_what_a_run_prints_today(pages: dict[str, str], strategy: str) -> None:
    def lasting(text: str) -> list[str]:
        text = re.sub(r"(MIG|GPU)-[0-9a-f]{8}-[0-9a-f-]{27}", r"\1-UUID", text)
        text = re.sub(r"(?<=machine=)\S+|(?<=timestamp=)\d+", "...", text)
        # they also widen the column
        for key in forgotten(text):
            text = re.sub(rf"^ +{re.escape(key)}: +\d+\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^Keys at 0 .*\n\n", "", text, flags=re.MULTILINE)
        # pods become Ready, and are listed, in any order
        return sorted(re.sub(r" +", " ", line) for line in text.splitlines())

    committed = (ROOT / "docs" / "walkthrough" / f"{strategy}.md").read_text()
    assert lasting(committed) == lasting(pages[strategy]), Path(f"docs/walkthrough/{strategy}.md is out of date")
