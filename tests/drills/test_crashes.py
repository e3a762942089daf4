# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A run that dies: the same command again ends where an undisturbed run does."""

from __future__ import annotations

import pytest
from drills.conftest import (
    HOST,
    KUBECTL,
    NODE,
    as_before,
    as_wanted,
    container_of,
    kept_as_failed,
    node_now,
    rollout,
    until,
    words,
    writes,
)
from lab.conftest import kubectl, on_host, run

KILL = "kill -9 $PLAYBOOK"
PHASES = [
    ("Take the lock", "runs"),
    ("Cordon the node and evict these pods", "begins"),
    ("Cordon the node and evict these pods", "runs"),
    ("Look again directly before the change", "runs"),
    ("Bring the GPUs to the layout", "begins"),
    ("Bring the GPUs to the layout", "runs"),
    ("Have the node's publishers look again", "begins"),
    ("Wait until the node shows what was predicted", "runs"),
    ("Give the node back as it was found", "begins"),
]
QUICK = ("Bring the GPUs to the layout", "runs")


@pytest.mark.parametrize(
    ("task", "when"),
    [pytest.param(*each, marks=() if each == QUICK else pytest.mark.full) for each in PHASES],
    ids=[f"{task} {when}" for task, when in PHASES],
)
def test_killed_and_run_again(stays: tuple[str, str], task: str, when: str) -> None:
    killed = rollout(at=task, when=when, do=KILL)
    assert killed.rc == -9
    again = rollout()
    assert again.rc == 0, again.output[-4000:]
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_the_host_loses_power_in_the_middle_of_the_change(stays: tuple[str, str]) -> None:
    """Its instances are gone, its node is not Ready: it stays cordoned, and the next run builds it up.

    What was bound to it is refused by the kubelet's first sync after the boot, and the run removes it when told to.
    """
    cut = rollout(at="Bring the GPUs to the layout", do=f"{HOST} host powercut {NODE}", mig_publish_timeout=5)
    assert cut.rc == 2
    assert "does not answer" in words(cut)
    kept_as_failed()
    run("python3", "tests/lab/lab.py", "host", "start", NODE)
    until("node Ready", lambda: "True" in kubectl("get", "node", NODE, "-o", READY), 120)
    again = rollout(mig_clean_failed_pods=True)
    assert again.rc == 0, again.output[-4000:]
    as_wanted()


READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'


@pytest.mark.full
def test_ssh_drops_after_the_cordon(stays: tuple[str, str]) -> None:
    """`rescue` does not see a host that is lost; the controller's side puts its node right all the same."""
    inside = f"{HOST} exec {NODE} --"
    # the listener, and the connection that Ansible keeps
    drop = f"{inside} lab-service stop sshd; {inside} pkill -KILL -x sshd"
    lost = rollout(at="Bring the GPUs to the layout", do=drop)
    try:
        assert lost.rc == 2
        assert "does not answer" in words(lost)
        kept_as_failed()
    finally:
        on_host(NODE, "lab-service", "start", "sshd")
    assert rollout().rc == 0
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_the_kubelet_freezes_while_the_plugin_restarts(stays: tuple[str, str]) -> None:
    """Allocatable never becomes what was predicted: the node stays cordoned, and says which command comes next."""
    kubelet = f"{HOST} exec {NODE} -- pkill"
    frozen = rollout(
        at="Have the node's publishers look again", do=f"{kubelet} -STOP -x kubelet", mig_publish_timeout=5
    )
    try:
        assert frozen.rc == 2
        assert "gpufleet.mig.rollout" in kept_as_failed()["gpufleet.io/reason"]
        events = kubectl("get", "events", "-A", "--field-selector", f"involvedObject.name={NODE}")
        assert "gpufleet" in events
    finally:
        on_host(NODE, "pkill", "-CONT", "-x", "kubelet")
    assert rollout().rc == 0
    as_wanted()


@pytest.mark.full
def test_the_node_is_made_anew_under_the_same_name(stays: tuple[str, str]) -> None:
    """Without our mark it is a stranger's node: nothing is changed on its host."""
    anew = f"{KUBECTL} delete node {NODE} && {HOST} exec {NODE} -- lab-service restart kubelet && " + (
        f"timeout 60 sh -c 'until {KUBECTL} wait --for=condition=Ready node/{NODE} --timeout=60s; do sleep 0.2; done'"
    )
    result = rollout(at="Look again directly before the change", do=anew)
    assert result.rc == 2
    assert "made anew" in words(result)
    assert writes() == ""
    assert "unschedulable" not in node_now()["spec"]


@pytest.mark.full
def test_the_disk_of_the_host_is_full_when_the_change_begins(stays: tuple[str, str]) -> None:
    """Without its journal a change could not be undone, so it does not begin; the node is given back."""
    folder = "/var/lib/gpufleet-mig"
    full = f"mkdir -p {folder} && mount -t tmpfs -o size=4k none {folder} && ! dd if=/dev/zero of={folder}/all bs=1k"
    result = rollout(at="Bring the GPUs to the layout", do=f"{HOST} exec {NODE} -- sh -c '{full}'")
    try:
        assert result.rc == 2
        assert "No space left on device" in words(result)
        as_before()
    finally:
        on_host(NODE, "umount", folder)
    assert rollout().rc == 0
    as_wanted()
    assert container_of("stays") == stays
