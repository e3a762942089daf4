# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One roll-out per cluster: who gets the lock, who keeps it, who loses it. Against an API server over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import ROOT, Api, node, run_here, run_module

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _lock, _process

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/gpufleet-rollout"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def lock(api: Api, check: bool = False, **params: Any) -> dict[str, Any]:
    return run_here("rollout_lock", check=check, kubeconfig=api.kubeconfig(), poll=0.02, **params)


def holder(api: Api) -> str | None:
    found: str | None = api.objects[LEASE]["spec"].get("holderIdentity")
    return found


def test_taken_renewed_and_given_back(api: Api) -> None:
    assert lock(api, state="shown")["holder"] is None
    predicted = lock(api, check=True, run="r1")
    assert not api.writes()
    taken = lock(api, run="r1")
    assert (taken["changed"], taken["taken_over_from"]) == (True, None)
    assert predicted["lock"] == taken["lock"]
    assert predicted["diff"] == taken["diff"]
    first = api.objects[LEASE]["spec"]["renewTime"]
    again = lock(api, run="r1")
    assert (again["changed"], again["since"]) == (False, taken["since"])
    assert api.objects[LEASE]["spec"]["renewTime"] > first
    assert lock(api, state="shown")["holder"] == taken["holder"] == holder(api)
    back = lock(api, state="released", holder=taken["holder"])
    assert (back["changed"], holder(api)) == (True, None)
    assert lock(api, state="released", holder=taken["holder"])["changed"] is False
    assert lock(api, run="r2")["taken_over_from"] is None


def test_the_holder_is_named_by_run_machine_process_and_start(api: Api, sleeper: subprocess.Popen[bytes]) -> None:
    name = lock(api, run="r1", pid=sleeper.pid)["holder"]
    started = Path(f"/proc/{sleeper.pid}/stat").read_text().rsplit(") ", 1)[1].split()[19]
    assert name == f"r1@{os.uname().nodename}:{sleeper.pid}:{started}"


def test_a_second_run_is_refused_and_told_who_since_when_and_the_break_glass(
    api: Api, sleeper: subprocess.Popen[bytes]
) -> None:
    first = lock(api, run="r1", pid=sleeper.pid)
    for check in (True, False):
        answer = lock(api, check=check, run="r2")
        assert answer["failed"]
        assert answer["holder"] == first["holder"]
        for words in (first["holder"], first["since"], "Nothing was changed", "force: true", "300 s"):
            assert words in answer["msg"]
    assert holder(api) == first["holder"]


def test_a_dead_process_of_this_machine_is_replaced_at_once(api: Api, sleeper: subprocess.Popen[bytes]) -> None:
    first = lock(api, run="r1", pid=sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    time.sleep(0.1)  # not waited for: a zombie is dead too
    answer = lock(api, run="r2", wait=0)
    assert answer["taken_over_from"] == {"holder": first["holder"], "since": first["since"], "reason": "dead"}
    assert holder(api) == answer["holder"] != first["holder"]


@pytest.mark.parametrize("part", ["host", "boot_id", "namespace"])
def test_a_process_elsewhere_is_never_called_dead(api: Api, sleeper: subprocess.Popen[bytes], part: str) -> None:
    lock(api, run="r1", pid=sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    annotations = api.objects[LEASE]["metadata"]["annotations"]
    told = json.loads(annotations["gpufleet.io/holder-process"])
    annotations["gpufleet.io/holder-process"] = json.dumps({**told, part: "another"})
    assert "Another roll-out holds the lock" in lock(api, run="r2")["msg"]


def test_the_same_pid_with_another_start_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    alive = _process.find(sleeper.pid)
    assert not _process.is_dead(alive)
    assert _process.is_dead(_process.Process(**{**alive.plain(), "started": "1"}))
    assert not _process.is_dead(_process.Process(**{**alive.plain(), "pid": 0}))


@pytest.mark.slow
def test_one_that_does_not_renew_is_replaced_after_its_duration_whatever_its_clock_says(
    api: Api, sleeper: subprocess.Popen[bytes]
) -> None:
    for clock in ("2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"):
        first = lock(api, run="r1", pid=sleeper.pid, duration=1, force=True)
        api.objects[LEASE]["spec"]["renewTime"] = clock
        assert lock(api, run="r2", wait=0.3)["failed"]
        started = time.monotonic()
        answer = lock(api, run="r2", wait=5)
        assert answer["taken_over_from"]["reason"] == "expired"
        assert answer["taken_over_from"]["holder"] == first["holder"]
        assert 0.9 < time.monotonic() - started < 3


@pytest.mark.slow
def test_one_that_renews_is_not_replaced(api: Api, sleeper: subprocess.Popen[bytes]) -> None:
    kube = _kube.Kube(api.kubeconfig())
    first = lock(api, run="r1", pid=sleeper.pid, duration=1)
    keeper = _lock.Keeper(_lock.Lock(kube, "kube-system", "gpufleet-rollout"), first["holder"], 1)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            keeper()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert "after 2 s of waiting" in lock(api, run="r2", wait=2)["msg"]
    finally:
        stop.set()
        thread.join()
    assert holder(api) == first["holder"]


def test_a_waiting_run_gets_it_when_it_is_given_back(api: Api, sleeper: subprocess.Popen[bytes]) -> None:
    first = lock(api, run="r1", pid=sleeper.pid)
    kube = _kube.Kube(api.kubeconfig())

    def give_back() -> None:
        time.sleep(0.3)
        _lock.Lock(kube, "kube-system", "gpufleet-rollout").release(first["holder"], dry=False)

    threading.Thread(target=give_back).start()
    answer = lock(api, run="r2", wait=10)
    assert (answer["changed"], answer["taken_over_from"]) == (True, None)


def test_break_glass_says_on_the_lease_who_was_overridden(api: Api, sleeper: subprocess.Popen[bytes]) -> None:
    first = lock(api, run="r1", pid=sleeper.pid)
    answer = lock(api, run="r2", force=True)
    assert answer["taken_over_from"]["reason"] == "forced"
    record = json.loads(api.objects[LEASE]["metadata"]["annotations"]["gpufleet.io/taken-over-from"])
    assert (record["holder"], record["reason"]) == (first["holder"], "forced")
    lost = lock(api, state="released", holder=first["holder"])
    assert "is not" in lost["msg"]
    assert answer["holder"] in lost["msg"]
    assert holder(api) == answer["holder"]


def test_of_many_at_once_exactly_one_gets_it(api: Api) -> None:
    api.conflicts[LEASE] = 1
    kube = _kube.Kube(api.kubeconfig())
    results: list[str] = []

    def attempt(name: str) -> None:
        mine = _lock.Lock(kube, "kube-system", "gpufleet-rollout")
        try:
            mine.acquire(name, _process.find(os.getpid()), duration=60, wait=0, force=False, poll=0.01, dry=False)
            results.append(name)
        except _lock.LockHeld:
            pass

    threads = [threading.Thread(target=attempt, args=(f"run{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 1
    assert holder(api) == results[0]


@pytest.mark.parametrize("how", ["deleted", "taken"])
def test_a_module_that_waits_stops_when_the_lock_is_lost(api: Api, how: str) -> None:
    api.put(node("a", {}))
    told = lock(api, run="r1", duration=0.3)["lock"]

    def lose() -> None:
        time.sleep(0.3)
        if how == "deleted":
            del api.objects[LEASE]
        else:
            lock_now = api.objects[LEASE]
            lock_now["spec"]["holderIdentity"] = "r2@elsewhere:1:1"
            api.stamp(lock_now, "MODIFIED")

    threading.Thread(target=lose).start()
    started = time.monotonic()
    expect = {"a": {"resources": {"nvidia.com/gpu": 1}}}
    answer = run_here(
        "node_gpu_info", kubeconfig=api.kubeconfig(), nodes=["a"], expect=expect, publishers=[], timeout=30, lock=told
    )
    assert "This run changes nothing further" in answer["msg"]
    assert ("r2@elsewhere" in answer["msg"]) == (how == "taken")
    assert time.monotonic() - started < 5


def test_without_the_lock_no_module_begins(api: Api) -> None:
    api.put(node("a", {}, {"nvidia.com/device-plugin.config": "single"}))
    told = {"namespace": "kube-system", "holder": "r1@x:1:1"}
    answer = run_here("node_publishers", kubeconfig=api.kubeconfig(), nodes={"a": {"config": "mixed"}}, lock=told)
    assert "released or deleted" in answer["msg"]
    assert not api.writes()


@pytest.mark.slow
def test_an_api_that_is_away_is_borne_until_the_lease_has_run_out(api: Api) -> None:
    told = lock(api, run="r1", duration=0.6)["lock"]
    kube = _kube.Kube(api.kubeconfig())
    keeper = _lock.open_keeper(kube, told, dry=False)
    assert keeper is not None
    kube.host = "http://127.0.0.1:9"
    time.sleep(0.25)
    keeper()
    time.sleep(0.5)
    with pytest.raises(_lock.LockLost, match="could not be renewed"):
        keeper()


def test_started_by_hand_nobody_can_say_that_the_holder_is_dead(api: Api) -> None:
    first = run_module("rollout_lock", kubeconfig=api.kubeconfig(), run="r1")
    assert first["holder"] == f"r1@{os.uname().nodename}:0:"
    assert "Another roll-out holds the lock" in lock(api, run="r2")["msg"]


@pytest.mark.slow
def test_below_ansible_playbook_that_process_is_the_holder(api: Api, tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "connection": "local",
                    "vars": {"ansible_python_interpreter": sys.executable},
                    "tasks": [{"gpufleet.mig.rollout_lock": {"kubeconfig": api.kubeconfig(), "run": "r1"}}],
                }
            ]
        )
    )
    program = subprocess.Popen(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(play)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _none = program.communicate(timeout=120)
    assert program.returncode == 0, said
    name, since = str(holder(api)), api.objects[LEASE]["spec"]["acquireTime"]
    assert name.split(":")[1] == str(program.pid)
    assert lock(api, run="r2")["taken_over_from"] == {"holder": name, "since": since, "reason": "dead"}


def test_a_node_that_a_dead_run_left_must_be_part_of_this_run(api: Api) -> None:
    failed = {"gpufleet.io/mig-state": "failed"}
    for name, run, labels in (
        ("gpu-1", "r0", {}),
        ("gpu-2", "r0", failed),
        ("gpu-3", None, {}),
        ("gpu-4", "boot-7", {}),
    ):
        left = node(name, {}, labels, unschedulable=True)
        left["metadata"]["annotations"] = {"gpufleet.io/run": run, "gpufleet.io/was-schedulable": "true"} if run else {}
        api.put(left)
    for check in (True, False):
        refused = lock(api, check=check, run="r1", covers=["gpu-3"])
        assert refused["failed"]
        assert "node gpu-1 (run r0)" in refused["msg"]
        assert "gpu-2" not in refused["msg"], "failed nodes wait for a person, and were reported"
        assert "gpu-4" not in refused["msg"], "one that is booting is given back by its own host"
    assert holder(api) is None
    assert not lock(api, run="r1", covers=["gpu-1", "gpu-3"]).get("failed")


def test_uninstalled_where_nobody_holds_it(api: Api) -> None:
    assert lock(api, state="absent")["changed"] is False
    me = lock(api, run="r1")["holder"]
    refused = lock(api, state="absent")
    assert refused["failed"]
    assert "r1" in refused["msg"]
    lock(api, state="released", run="r1", holder=me)
    assert lock(api, check=True, state="absent")["changed"]
    assert LEASE in api.objects
    assert lock(api, state="absent")["changed"]
    assert LEASE not in api.objects
