# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Breaking a simulated host on purpose: failing, slow and killing calls, lost GPUs, Xid errors; the log of calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pynvml
import pytest
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import A100, H100, Killed, NvmlHost, Refused, gpu, refused

CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
FILL = "nvmlGpuInstanceCreateComputeInstanceWithPlacement"
ON = [{"product": A100, "mig": "enabled"}, {"product": A100, "mig": "enabled"}]


@pytest.fixture
def pair(make_host: MakeHost) -> NvmlHost:
    """Two A100 with MIG on."""
    return make_host(*ON)


def one_after_another() -> list[int]:
    """Four instances on the first GPU: what each call answered."""
    answers = []
    for start in range(4):
        try:
            gpu().create(19, start, 1)
            answers.append(0)
        except pynvml.NVMLError as error:
            answers.append(error.value)
    return answers


@pytest.mark.parametrize(
    ("calls", "wanted"), [("2", [0, 23, 0, 0]), ("2-3", [0, 23, 23, 0]), ("3-", [0, 0, 23, 23]), ("1", [23, 0, 0, 0])]
)
def test_chosen_calls_of_a_function_fail(pair: NvmlHost, calls: str, wanted: list[int]) -> None:
    pair.simctl("fault", CREATE, "--calls", calls, "--return", 23)
    assert pair.ask(one_after_another) == wanted
    assert pair.ask(lambda: gpu().layout()) == [(19, start, 1) for start, answer in enumerate(wanted) if not answer]


@pytest.mark.parametrize(
    "words",
    [
        ["fault", CREATE, "--frobnicate", "1"],
        ["fault", CREATE, "--gpu"],
        ["fault", CREATE, "--calls", "2-x"],
        ["fault", CREATE, "--return", "IN_USE"],
        ["fault", "nvmlDeviceFrobnicate"],
        ["fault"],
        ["busy", "0", "--calls", "1"],
        ["busy", "zero"],
        ["delay", "0"],
        ["driver", "reload"],
        ["passthrough", "0", "perhaps"],
        ["log", "--reads"],
        ["show", "everything"],
        ["frobnicate"],
        [],
    ],
    ids=" ".join,
)
def test_what_simctl_does_not_know_is_refused_with_its_usage(pair: NvmlHost, words: list[str]) -> None:
    """A fault that never happens would make a test pass for nothing."""
    done = pair.program("simctl", *words)
    assert done.returncode == 2
    assert "simctl [--state FILE] COMMAND" in done.stderr
    assert pair.ask(one_after_another) == [0, 0, 0, 0]


def test_a_gpu_that_is_not_there_is_named_before_anything_is_done(pair: NvmlHost) -> None:
    pair.ask(one_after_another)
    done = pair.program("simctl", "reset", "0", "7")
    assert (done.returncode, done.stderr) == (1, "simctl: there is no GPU 7: there are 2\n")
    assert pair.ask(lambda: len(gpu().layout())) == 4


def place_one(start: int) -> tuple[int, int, int]:
    return gpu().create(19, start).place


def test_a_fault_counts_over_processes_until_it_is_cleared(pair: NvmlHost) -> None:
    pair.simctl("fault", CREATE, "--calls", "3-", "--return", 19)
    for start in (0, 1):
        pair.ask(partial(place_one, start))
    with pytest.raises(Refused) as error:
        pair.ask(lambda: gpu().create(19, 2).place)
    assert error.value.code == pynvml.NVML_ERROR_IN_USE
    pair.clear_faults()
    assert pair.ask(lambda: gpu().create(19, 2).place) == (19, 2, 1)


def test_a_fault_of_one_gpu_leaves_the_others_alone(pair: NvmlHost) -> None:
    pair.simctl("fault", CREATE, "--gpu", 1, "--calls", "1-", "--return", 999)

    def both() -> tuple[int, int, int]:
        with refused(pynvml.NVML_ERROR_UNKNOWN):
            gpu(1).create(19, 0)
        return gpu(0).create(19, 0).place

    assert pair.ask(both) == (19, 0, 1)


def test_a_call_may_fail_after_it_did_its_work(pair: NvmlHost) -> None:
    """As DRA saw it: destroying failed, and what was to go had gone."""
    pair.simctl("fault", CREATE, "--after", "--return", 999)
    with pytest.raises(Refused):
        pair.ask(lambda: gpu().create(19, 0).place)
    assert pair.ask(lambda: gpu().layout()) == [(19, 0, 1)]


def test_every_writing_call_can_be_counted_together(pair: NvmlHost) -> None:
    pair.simctl("fault", "writes", "--calls", "2", "--return", 999)

    def create_and_fill() -> list[str]:
        made = gpu().create(19, 0)
        with refused(pynvml.NVML_ERROR_UNKNOWN):
            made.fill(0)
        made.fill(0)
        return gpu().uuids()

    assert len(pair.ask(create_and_fill)) == 1


def create_and_fill() -> None:
    """As a program brings up an instance: the GPU instance, then what fills it."""
    gpu().create(14, 2).fill(1, 0, 2)


@pytest.mark.parametrize(
    ("function", "after", "instances", "devices"),
    [(CREATE, False, 0, 0), (CREATE, True, 1, 0), (FILL, False, 1, 0), (FILL, True, 1, 1)],
)
def test_what_a_killed_program_leaves_behind(
    pair: NvmlHost, function: str, after: bool, instances: int, devices: int
) -> None:
    pair.simctl("fault", function, "--kill", *(["--after"] if after else []))
    with pytest.raises(Killed, match="SIGKILL"):
        pair.ask(create_and_fill)
    assert pair.ask(lambda: (len(gpu().layout()), len(gpu().uuids()))) == (instances, devices)
    assert pair.ask(lambda: gpu().create(19, 6).place) == (19, 6, 1), "the killed program holds no lock"


def test_a_lost_gpu_fails_every_call_until_it_is_back(pair: NvmlHost) -> None:
    def lose() -> tuple[int, int]:
        device = gpu(0)
        pair.simctl("lose", 0)
        with refused(pynvml.NVML_ERROR_GPU_IS_LOST):
            _ = device.mode
        with refused(pynvml.NVML_ERROR_GPU_IS_LOST):
            gpu(0)
        return gpu(1).mode

    assert pair.ask(lose) == (1, 1)
    pair.simctl("find", 0)
    assert pair.ask(lambda: gpu(0).mode) == (1, 1)


def test_xid_errors_reach_those_who_wait_for_them(make_host: MakeHost) -> None:
    host = make_host(A100, H100)

    def wait() -> list[tuple[int, int]]:
        events = pynvml.nvmlEventSetCreate()
        for index in range(2):
            pynvml.nvmlDeviceRegisterEvents(gpu(index).handle, pynvml.nvmlEventTypeXidCriticalError, events)
        host.simctl("xid", 1, 79)
        host.simctl("xid", 0, 48)
        found = []
        for _ in range(2):
            data = pynvml.nvmlEventSetWait_v2(events, 5000)
            found.append((pynvml.nvmlDeviceGetIndex(data.device), data.eventData))
        with refused(pynvml.NVML_ERROR_TIMEOUT):
            pynvml.nvmlEventSetWait_v2(events, 1)
        return found

    assert host.ask(wait) == [(1, 79), (0, 48)]


def test_the_log_tells_writes_from_reads(pair: NvmlHost) -> None:
    pair.ask(lambda: gpu().layout())
    assert pair.writes() == []
    assert "nvmlDeviceGetGpuInstances gpu=0" in pair.simctl("log")
    pair.ask(create_and_fill)
    created, filled = pair.writes()
    assert created.startswith(f"{CREATE} gpu=0")
    assert "profile=14 start=2 size=2" in created
    assert filled.startswith(f"{FILL} gpu=0")
    pair.forget_calls()
    assert pair.simctl("log") == ""


def test_a_refused_write_is_logged_with_its_answer(pair: NvmlHost) -> None:
    with pytest.raises(Refused):
        pair.ask(lambda: pynvml.nvmlDeviceCreateGpuInstance(gpu().handle, 77))
    (line,) = pair.writes()
    assert line.endswith(f"-> {pynvml.NVML_ERROR_INVALID_ARGUMENT}")


def writer(index: int, count: int) -> Callable[[], None]:
    def write() -> None:
        device = gpu(index)
        for start in range(count):
            device.create(19, start, 1)

    return write


def test_a_slow_gpu_does_not_hold_up_callers_on_others(pair: NvmlHost) -> None:
    """One caller is inside a call that takes a minute; another does all its work meanwhile."""
    pair.simctl("delay", 0, 60_000)
    slow = pair.begin(writer(0, 1))
    while not pair.writes():  # the call has done its work and is waiting
        assert os.waitpid(slow.pid, os.WNOHANG) == (0, 0)
    pair.ask(writer(1, 7))
    assert os.waitpid(slow.pid, os.WNOHANG) == (0, 0), "the second caller had to wait for the first"
    os.kill(slow.pid, signal.SIGKILL)
    with pytest.raises(Killed):
        slow.answer()
    assert pair.ask(lambda: (len(gpu(0).layout()), len(gpu(1).layout()))) == (1, 7)


def test_calls_of_all_processes_come_one_after_the_other(pair: NvmlHost) -> None:
    """The log numbers them under the lock: none is lost, none comes twice, none is out of order."""

    def look() -> None:
        device = gpu()
        for _ in range(400):
            _ = device.mode

    for child in [pair.begin(look) for _ in range(4)]:
        child.answer()
    numbers = [int(line.split()[0]) for line in pair.simctl("log").splitlines()]
    assert len(numbers) > 4 * 400
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_callers_see_each_others_instances_and_nothing_is_made_twice(pair: NvmlHost) -> None:
    children = [pair.begin(writer(index, 7)) for index in (0, 1)]
    for child in children:
        child.answer()
    ids = pair.ask(lambda: [[instance.info.id for instance in gpu(index).instances()] for index in (0, 1)])
    assert [len(set(found)) for found in ids] == [7, 7]


LOAD = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
LATE = f"import os; os.environ['LD_LIBRARY_PATH'] = os.environ['HERE']\n{LOAD}"


@pytest.mark.parametrize(("code", "before", "works"), [(LOAD, True, True), (LATE, False, False)])
def test_the_linkers_path_must_be_set_before_the_program_starts(
    pair: NvmlHost, code: str, before: bool, works: bool
) -> None:
    """pynvml loads the library by its bare name."""
    environment = pair.environment
    environment["HERE"] = environment["LD_LIBRARY_PATH"]
    if not before:
        del environment["LD_LIBRARY_PATH"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == works, done.stderr
    assert ("LibraryNotFound" in done.stderr) != works
