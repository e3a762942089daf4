# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""nvidia-smi and gpu-holder of the simulation, against NVIDIA's published listings and the manual page."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pynvml
from integration.modules.simulated_host import BUILD, NOBODY
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import A100, H100, UUID, NvmlHost, gpu

BUS = "00000000:07:00.0"


def test_gpus_and_their_devices_are_listed_as_published(a100: NvmlHost) -> None:
    """GPU 0: NAME (UUID: GPU-...), and below it MIG 3g.20gb     Device  0: (UUID: MIG-...)."""
    assert a100.smi("mig", "-cgi", "9,14,19", "-C").returncode == 0
    board, *devices = a100.smi("-L").stdout.splitlines()
    assert re.fullmatch(rf"GPU 0: NVIDIA A100-SXM4-40GB \(UUID: GPU-{UUID}\)", board)
    form = rf"  MIG (\dg\.\d+gb)     ? Device  (\d): \(UUID: (MIG-{UUID})\)"
    found = [re.fullmatch(form, line) for line in devices]
    assert all(found), devices
    rows = [match.groups() for match in found if match]
    assert sorted(profile for profile, _index, _uuid in rows) == ["1g.5gb", "2g.10gb", "3g.20gb"]
    assert [index for _profile, index, _uuid in rows] == ["0", "1", "2"]
    assert [uuid for _profile, _index, uuid in rows] == a100.ask(lambda: gpu().uuids())


def test_creating_and_destroying_speak_as_the_guide_does(a100: NvmlHost) -> None:
    made = a100.smi("mig", "-cgi", "9")
    instance = a100.ask(lambda: int(gpu().instances()[0].info.id))
    assert made.stdout == (
        f"Successfully created GPU instance ID {instance:2} on GPU  0 using profile MIG 3g.20gb (ID  9)\n"
    )
    gone = a100.smi("mig", "-dgi")
    assert (gone.returncode, gone.stdout) == (0, f"Successfully destroyed GPU instance ID {instance:2} from GPU  0\n")
    assert a100.ask(lambda: gpu().layout()) == []


def test_profiles_are_named_by_id_or_name_with_a_place(a100: NvmlHost) -> None:
    assert a100.smi("mig", "-cgi", "3g.20gb:4,19:0,14:2", "-C").returncode == 0
    assert a100.ask(lambda: gpu().layout()) == [(9, 4, 4), (14, 2, 2), (19, 0, 1)]
    assert a100.ask(lambda: len(gpu().uuids())) == 3


def test_what_does_not_fit_is_said_with_nvmls_words(a100: NvmlHost) -> None:
    refused = a100.smi("mig", "-cgi", "19,19,14,9")
    assert refused.returncode != 0
    assert refused.stdout.splitlines()[-2:] == [
        "Unable to create a GPU instance on GPU  0 using profile 9: Insufficient Resources",
        "Failed to create GPU instances: Insufficient Resources",
    ]
    assert a100.smi("mig", "-cgi", "99").returncode != 0


def test_an_instance_with_a_compute_instance_is_in_use(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "9:0", "-C")
    refused = a100.smi("mig", "-dgi")
    assert refused.returncode != 0
    instance = a100.ask(lambda: int(gpu().instances()[0].info.id))
    assert refused.stdout == (
        f"Unable to destroy GPU instance ID {instance:2} from GPU  0: In use by another client\n"
        "Failed to destroy GPU instances: In use by another client\n"
    )
    assert a100.smi("mig", "-dci").stdout.startswith("Successfully destroyed compute instance ID  0 from GPU  0")
    assert a100.smi("mig", "-dgi").returncode == 0
    assert "No GPU instances found: Not Found" in a100.smi("mig", "-lgi").stdout


def test_only_the_instance_named_is_destroyed(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "19:0,19:6")
    victim = a100.ask(lambda: next(one.info.id for one in gpu().instances() if one.place[1] == 6))
    assert a100.smi("mig", "-i", 0, "-dgi", "-gi", victim).returncode == 0
    assert a100.ask(lambda: gpu().layout()) == [(19, 0, 1)]


def rows(table: str) -> list[str]:
    """The lines between a table's rules, without its head."""
    body = table.split("=|\n", 1)[1]
    return [line for line in body.splitlines() if not line.startswith("+")]


def test_profiles_are_listed_as_on_a_real_h100(make_host: MakeHost) -> None:
    """Line for line a published nvidia-smi mig -lgip of an H100 80GB HBM3."""
    shown = make_host({"product": H100, "mig": "enabled"}).smi("mig", "-lgip").stdout
    assert shown.splitlines()[:5] == [
        "+-------------------------------------------------------------------------------+",
        "| GPU instance profiles:                                                        |",
        "| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |",
        "|                                Free/Total   GiB              CE    JPEG  OFA  |",
        "|===============================================================================|",
    ]
    assert rows(shown) == [
        "|   0  MIG 1g.10gb         19     7/7        9.75       No     16     1     0   |",
        "|                                                               1     1     0   |",
        "|   0  MIG 1g.10gb+me      20     1/1        9.75       No     16     1     0   |",
        "|                                                               1     1     1   |",
        "|   0  MIG 1g.20gb         15     4/4        19.62      No     26     1     0   |",
        "|                                                               1     1     0   |",
        "|   0  MIG 2g.20gb         14     3/3        19.62      No     32     2     0   |",
        "|                                                               2     2     0   |",
        "|   0  MIG 3g.40gb          9     2/2        39.50      No     60     3     0   |",
        "|                                                               3     3     0   |",
        "|   0  MIG 4g.40gb          5     1/1        39.50      No     64     4     0   |",
        "|                                                               4     4     0   |",
        "|   0  MIG 7g.80gb          0     1/1        79.25      No     132    7     0   |",
        "|                                                               8     7     1   |",
    ]


def test_instances_are_listed_as_on_a_real_h100(make_host: MakeHost) -> None:
    """-cgi 9,14 and -cci, then the lists: only the ids differ from board to board."""
    host = make_host({"product": H100, "mig": "enabled"})
    host.smi("mig", "-i", 0, "-cgi", "9,14")
    wide, narrow = host.ask(lambda: [one.info.id for one in sorted(gpu().instances(), key=lambda i: -i.place[1])])
    made = host.smi("mig", "-i", 0, "-gi", wide, "-cci")
    assert made.stdout == (
        f"Successfully created compute instance ID  0 on GPU  0 GPU instance ID {wide:2} "
        "using profile MIG 3g.40gb (ID  2)\n"
    )
    host.smi("mig", "-i", 0, "-gi", narrow, "-cci", "1")
    assert rows(host.smi("mig", "-lgi").stdout) == [
        f"|   0  MIG 2g.20gb           14{narrow:9}          0:2     |",
        f"|   0  MIG 3g.40gb            9{wide:9}          4:4     |",
    ]
    assert host.smi("mig", "-i", 0, "-lci").stdout.splitlines() == [
        "+--------------------------------------------------------------------+",
        "| Compute instances:                                                 |",
        "| GPU     GPU       Name             Profile   Instance   Placement  |",
        "|       Instance                       ID        ID       Start:Size |",
        "|         ID                                                         |",
        "|====================================================================|",
        f"|   0{narrow:7}       MIG 2g.20gb          1         0          0:2     |",
        "+--------------------------------------------------------------------+",
        f"|   0{wide:7}       MIG 3g.40gb          2         0          0:4     |",
        "+--------------------------------------------------------------------+",
    ]


def test_compute_profiles_are_listed_as_on_a_real_a100(a100: NvmlHost) -> None:
    """The default one is marked; what is used is not free."""
    a100.smi("mig", "-cgi", "14:0")
    instance = a100.ask(lambda: int(gpu().instances()[0].info.id))
    assert a100.smi("mig", "-gi", instance, "-lci").stdout == "No compute instances found: Not Found\n"
    a100.smi("mig", "-gi", instance, "-cci", "1c.2g.10gb,0")
    assert rows(a100.smi("mig", "-lcip", "-gi", instance).stdout) == [
        f"|   0{instance:7}       MIG 1c.2g.10gb       0      0/2           14        1     0     0   |",
        "|                                                                      2     0         |",
        f"|   0{instance:7}       MIG 2g.10gb          1*     0/1           28        1     0     0   |",
        "|                                                                      2     0         |",
    ]
    assert a100.smi("mig", "-lcip", "-gi", 14).returncode == 6
    assert a100.smi("mig", "-dci", "-gi", instance, "-ci", "1").stdout == (
        f"Successfully destroyed compute instance ID  1 from GPU  0 GPU instance ID {instance:2}\n"
    )


def test_versions_are_told_in_four_lines(a100: NvmlHost) -> None:
    assert a100.smi("--version").stdout == (
        "NVIDIA-SMI version  : 580.82.07\nNVML version        : 580.82\n"
        "DRIVER version      : 580.82.07\nCUDA Version        : 13.0\n"
    )


def test_a_board_without_mig_is_said_to_have_none(make_host: MakeHost) -> None:
    host = make_host("l40s")
    listed = host.smi("mig", "-lgip")
    assert (listed.returncode, listed.stdout) == (6, "No MIG-supported devices found.\n")
    assert host.smi("-mig", 1).stdout == (
        f"Unable to enable MIG Mode for GPU {BUS}: Not Supported\nTreating as warning and moving on.\nAll done.\n"
    )
    query = host.smi("--query-gpu=name,mig.mode.current", "--format=csv")
    assert query.stdout == "name, mig.mode.current\nNVIDIA L40S, [N/A]\n"


def test_placements_are_those_of_the_published_listing(a100: NvmlHost) -> None:
    """GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1, and so on, as newer releases print it."""
    assert a100.smi("mig", "-lgipp").stdout.splitlines() == [
        "GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1",
        "GPU  0 Profile ID 20 Placements: {0,1,2,3,4,5,6}:1",
        "GPU  0 Profile ID 15 Placements: {0,2,4,6}:2",
        "GPU  0 Profile ID 14 Placements: {0,2,4}:2",
        "GPU  0 Profile ID  9 Placements: {0,4}:4",
        "GPU  0 Profile ID  5 Placement: {0}:4",
        "GPU  0 Profile ID  0 Placement: {0}:8",
    ]


def test_other_users_may_list_devices_and_change_nothing(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "19", "-C")
    assert len(re.findall("UUID: MIG-", a100.smi("-L", user=NOBODY).stdout)) == 1
    for words in (["mig", "-cgi", "19"], ["mig", "-lgi"], ["-mig", "0"], ["--gpu-reset", "-i", "0"]):
        refused = a100.smi(*words, user=NOBODY)
        assert refused.returncode == pynvml.NVML_ERROR_NO_PERMISSION, words
        assert "Insufficient Permissions" in refused.stdout, words
    assert a100.ask(lambda: (gpu().mode, len(gpu().layout()))) == ((1, 1), 1)


def test_changing_the_mode_speaks_as_the_guide_does(make_host: MakeHost) -> None:
    host = make_host(A100)
    done = host.smi("-i", 0, "-mig", 1)
    assert (done.returncode, done.stdout) == (0, f"Enabled MIG Mode for GPU {BUS}\nAll done.\n")
    host.simctl("busy", 0)
    busy = host.smi("-i", BUS, "-mig", 0).stdout
    assert f"Warning: MIG mode is in pending disable state for GPU {BUS}:In use by another client\n" in busy
    query = ["--query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending", "--format=csv"]
    assert host.smi(*query).stdout.splitlines()[1] == f"{BUS}, Enabled, Disabled"


def test_under_passthrough_the_guide_asks_for_a_reset(make_host: MakeHost) -> None:
    said = make_host({"product": A100, "passthrough": True}).smi("-mig", 1).stdout
    assert said == (
        f"Warning: MIG mode is in pending enable state for GPU {BUS}:Not Supported\n"
        f"Reboot the system or try nvidia-smi --gpu-reset to make MIG mode effective on GPU {BUS}\nAll done.\n"
    )


def test_a_reset_needs_idle_gpus_and_takes_all_or_none(make_host: MakeHost) -> None:
    host = make_host(*[{"product": A100, "mig": "enabled"}] * 2)
    buses = "00000000:07:00.0,00000000:0F:00.0"
    for index in (0, 1):
        host.smi("mig", "-i", index, "-cgi", "19")
    host.simctl("busy", 1)
    refused = host.smi("--gpu-reset", "-i", buses)
    assert refused.returncode != 0
    assert "In use by another client" in refused.stdout
    assert host.ask(lambda: [len(gpu(index).layout()) for index in (0, 1)]) == [1, 1]
    host.simctl("idle", 1)
    done = host.smi("--gpu-reset", "-i", buses)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "GPU 00000000:07:00.0 was successfully reset."
    assert host.ask(lambda: [len(gpu(index).layout()) for index in (0, 1)]) == [0, 0]


def test_queries_answer_in_csv(make_host: MakeHost) -> None:
    host = make_host(A100, H100)
    fields = "--query-gpu=index,name,memory.total,mig.mode.current"
    assert host.smi(fields, "--format=csv,noheader").stdout.splitlines() == [
        "0, NVIDIA A100-SXM4-40GB, 40960 MiB, Disabled",
        "1, NVIDIA H100 80GB HBM3, 81559 MiB, Disabled",
    ]
    assert host.smi(fields, "--format=csv,noheader,nounits", "-i", 1).stdout.split(", ")[2] == "81559"
    uuid = host.ask(lambda: pynvml.nvmlDeviceGetUUID(gpu(1).handle))
    assert host.smi("--query-gpu=index", "--format=csv,noheader", "-i", uuid).stdout.strip() == "1"


def test_wrong_words_and_missing_gpus_have_the_manuals_exit_codes(make_host: MakeHost) -> None:
    host = make_host(A100)
    assert host.smi("--frobnicate").returncode == 2
    for words in (["mig"], ["mig", "-frobnicate"], ["mig", "-cgi"], ["mig", "-lgi", "-lci"], ["mig", "-lgi", "-i"]):
        assert host.smi(*words).returncode == 2, words
    assert host.smi("--query-gpu=frobnication", "--format=csv").returncode == 2
    missing = host.smi("-L", "-i", 5)
    assert (missing.returncode, missing.stdout) == (6, "No devices were found\n")
    none = host.smi("mig", "-lgi")
    assert (none.returncode, none.stdout) == (6, "No MIG-enabled devices found.\n")
    host.simctl("driver", "unload")
    away = host.smi("-L")
    assert away.returncode == 9
    assert away.stdout.startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")


@contextmanager
def holder(host: NvmlHost, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gpu-holder that has registered itself, and the UUID that it prints."""
    with subprocess.Popen(
        [str(BUILD / "gpu-holder"), *words], env=host.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def users(host: NvmlHost) -> list[tuple[int, int]]:
    """(pid, GPU instance) of the processes on the first GPU."""
    return host.ask(
        lambda: [
            (process.pid, process.gpuInstanceId)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu().handle)
        ]
    )


def test_a_holder_uses_the_first_device_until_it_is_told_to_end(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "9,9", "-C")
    first, _second = a100.ask(lambda: gpu().uuids())
    with holder(a100, "--name", "trainer") as (process, uuid):
        assert uuid == first
        instance = a100.ask(lambda: int(pynvml.nvmlDeviceGetGpuInstanceId(gpu().devices()[0])))
        assert users(a100) == [(process.pid, instance)]
        assert a100.ask(lambda: pynvml.nvmlSystemGetProcessName(process.pid)) == "trainer"
        assert a100.smi("mig", "-dci").returncode != 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert users(a100) == []
    assert a100.smi("mig", "-dci").returncode == 0


def test_a_killed_holder_no_longer_counts(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "19", "-C")
    with holder(a100) as (process, _uuid):
        assert [pid for pid, _instance in users(a100)] == [process.pid]
        process.kill()
        process.wait(timeout=10)
        assert users(a100) == []


def test_without_devices_a_holder_uses_the_gpu_and_keeps_its_mode_pending(make_host: MakeHost) -> None:
    host = make_host(A100)
    with holder(host) as (process, uuid):
        assert uuid == host.ask(lambda: pynvml.nvmlDeviceGetUUID(gpu().handle))
        assert [pid for pid, _instance in users(host)] == [process.pid]
        assert host.ask(lambda: (gpu().set_mode(1), gpu().mode)) == (pynvml.NVML_ERROR_IN_USE, (0, 1))
        assert host.smi("--gpu-reset", "-i", 0).returncode != 0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    host.reset()
    assert host.ask(lambda: gpu().mode) == (1, 1)


def test_a_holder_ends_by_itself_after_its_seconds(a100: NvmlHost) -> None:
    a100.smi("mig", "-cgi", "19", "-C")
    with holder(a100, "--seconds", "1") as (process, _uuid):
        assert process.wait(timeout=20) == 0
    assert users(a100) == []


def test_a_holder_says_why_it_cannot_start(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.simctl("driver", "unload")
    done = host.program("gpu-holder")
    assert (done.returncode, done.stderr) == (1, "gpu-holder: Driver Not Loaded\n")
