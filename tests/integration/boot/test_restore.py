# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet-mig apply --boot after reboots of every kind: what comes back, what cannot, and what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from integration.boot.boot_host import BARE
from integration.boot.conftest import MakeBootHost
from integration.modules.simulated_host import place_of
from integration.modules.test_alone import oldest_python

pytestmark = pytest.mark.slow  # each starts the packed command in a process of its own

A100, H100, A30 = "a100-sxm4-40gb", "h100-sxm5-80gb", "a30"
ON = "enabled"


@pytest.mark.parametrize(
    ("product", "layout", "after_reboot"),
    [
        (A100, [{"profile": "3g.20gb", "start": 4}, {"profile": "1g.5gb", "start": 2}], "MIG enabled: no instances"),
        (H100, [{"profile": "1g.10gb", "start": 6}, {"profile": "3g.40gb", "start": 0}], "MIG disabled"),
        (
            H100,
            [{"profile": "3g.40gb", "start": 4, "compute_instances": ["1c.3g.40gb", "1c.3g.40gb"]}],
            "MIG disabled",
        ),
    ],
)
def test_what_a_reboot_takes_comes_back_in_its_places(
    make_host: MakeBootHost, product: str, layout: list[dict[str, object]], after_reboot: str
) -> None:
    host = make_host({"product": product, "mig": ON})
    stood = host.partition([{"gpus": 0, "instances": layout}])
    host.reboot()
    assert host.lines()[0].endswith(after_reboot)
    done = host.command("apply", "--boot")
    assert done.code == 0, done.err
    assert host.lines() == stood
    assert done.out == f"{stood[0]}\nchanged\n"
    host.forget_calls()
    again = host.command("apply", "--boot")
    assert (again.code, again.out) == (0, f"{stood[0]}\nnothing to change\n")
    assert host.writes() == []


def test_a_mode_that_would_take_another_reboot_is_given_up(make_host: MakeBootHost) -> None:
    """A passed-through A100 whose MIG somebody switched off, on a host without nvidia-smi to reset it."""
    host = make_host({"product": A100, "passthrough": True, "mig": ON}, {"product": A100, "mig": ON})
    stood = host.partition("all-1g.5gb")
    host.run("mig_mode", gpus=0, mode="disabled", destroy_instances=True)
    host.reboot()
    done = host.command("apply", "--boot", PATH="/usr/bin:/bin")
    assert done.code == 3
    assert "GPU 0 (NVIDIA A100-SXM4-40GB): setting MIG to enabled failed" in done.err
    assert "nvidia-smi is not installed on this host" in done.err
    assert host.lines()[1] == stood[1]
    assert host.gpus()[0]["mig_mode"]["current"] == "disabled"


def test_gpus_that_are_missing_moved_or_swapped(make_host: MakeBootHost) -> None:
    host = make_host(*[{"product": H100, "mig": ON}] * 4)
    stood = host.partition([{"gpus": "0-2", "instances": {"1g.10gb": 2}}, {"gpus": 3, "instances": {"3g.40gb": 2}}])
    kept = host.kept()
    first, second, third, fourth = kept["gpus"]
    first["uuid"] = "GPU-11111111-1111-1111-1111-111111111111"  # another board of the same model in the same slot
    second.update(name="NVIDIA A30", pci_device_id="0x20B710DE", uuid="GPU-2")  # another model stands there now
    third.update(uuid="GPU-3", pci_bus_id="00000000:FE:00.0")  # gone, nothing in its place
    fourth["pci_bus_id"] = "00000000:FD:00.0"  # moved to the slot where it is now
    host.keep(kept)
    host.reboot()
    strict = host.command("apply")
    assert strict.code == 1
    assert host.writes() == []
    assert "Nothing was changed" in strict.err
    done = host.command("apply", "--boot", "--metrics", str(host.metrics))
    assert done.code == 3
    assert f"NVIDIA A30 GPU-2 at {second['pci_bus_id']} was replaced by a NVIDIA H100 80GB HBM3 (GPU 1)" in done.err
    assert "NVIDIA H100 80GB HBM3 GPU-3 at 00000000:FE:00.0 is not there" in done.err
    now = host.lines()
    assert (now[0], now[3]) == (stood[0], stood[3])
    assert now[1].endswith("MIG disabled")
    assert now[2].endswith("MIG disabled")
    assert "gpufleet_mig_last_apply_success 0\n" in (host.metrics / "gpufleet_mig_apply.prom").read_text()
    assert "gpufleet_mig_layout_drift 1\n" in (host.metrics / "gpufleet_mig_layout.prom").read_text()


def test_a_gpu_that_has_died_does_not_keep_the_others_from_coming_back(make_host: MakeBootHost) -> None:
    host = make_host(*[{"product": H100, "mig": ON}] * 3)
    stood = host.partition("all-balanced")
    host.reboot()
    host.simctl("lose", 1)
    done = host.command("apply", "--boot")
    assert done.code == 3
    assert "GPU 1 of this host cannot be read" in done.err
    host.simctl("find", 1)
    now = host.lines()
    assert (now[0], now[2]) == (stood[0], stood[2])
    assert now[1].endswith("MIG disabled")


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_gpu_that_fails_goes_back_alone(make_host: MakeBootHost, call: int) -> None:
    """As it stood after the boot; what the others have been given stays and is made only once."""
    host = make_host(*[{"product": H100, "mig": ON}] * 3)
    stood = host.partition([{"gpus": "all", "instances": {"1g.10gb": 3}}])
    host.reboot()
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    host.simctl("fault", create, "--gpu", 1, "--calls", call, "--return", 999)
    done = host.command("apply", "--boot")
    assert done.code == 3
    assert "GPU 1 is again as before" in done.err
    assert [place_of(one) for one in host.writes()].count(create) == 6 + call
    now = host.lines()
    assert (now[0], now[2]) == (stood[0], stood[2])
    assert now[1].endswith("MIG disabled")
    host.clear_faults()
    assert host.command("apply", "--boot").code == 0
    assert host.lines() == stood


def test_instances_in_use_and_profiles_that_are_not_there_concern_their_gpu_only(make_host: MakeBootHost) -> None:
    host = make_host(*[{"product": H100, "mig": ON}] * 3)
    stood = host.partition([{"gpus": "all", "instances": [{"profile": "1g.10gb", "start": 0}]}])
    host.run("mig_layout", layout=[{"gpus": "all", "instances": [{"profile": "2g.20gb", "start": 0}]}])
    gi = host.gpus()[0]["instances"][0]["gi_id"]
    host.simctl("busy", 0, "--gi", gi, "--ci", 0, "--pid", os.getpid(), "--name", "python")
    kept = host.kept()
    kept["gpus"][1]["wanted"] = {"instances": [{"profile": "1g.24gb", "start": 0}]}
    host.keep(kept)
    done = host.command("apply", "--boot")
    assert done.code == 3
    assert f"process {os.getpid()}" in done.err
    assert "1g.24gb" in done.err
    assert host.lines()[0].endswith("2g.20gb@0")
    assert host.lines()[1].endswith("2g.20gb@0")
    assert host.lines()[2] == stood[2]


def test_power_fails_in_the_middle_of_a_restore(make_host: MakeBootHost) -> None:
    host = make_host(*[{"product": A100, "mig": ON}] * 2)
    stood = host.partition("all-1g.5gb")
    host.reboot()
    host.simctl("fault", "nvmlGpuInstanceCreateComputeInstanceWithPlacement", "--gpu", 0, "--calls", 4, "--kill")
    done = host.command("apply", "--boot", "--metrics", str(host.metrics))
    assert done.code == -signal.SIGKILL
    assert "gpufleet_mig_last_apply_success 0\n" in (host.metrics / "gpufleet_mig_apply.prom").read_text()
    host.clear_faults()
    host.reboot()
    done = host.command("apply", "--boot", "--metrics", str(host.metrics))
    assert done.code == 0, done.err
    assert "did not end" in done.err
    assert host.lines() == stood
    assert "gpufleet_mig_last_apply_success 1\n" in (host.metrics / "gpufleet_mig_apply.prom").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not a layout that gpufleet-mig wrote"),
        ('{"gpus": [{"uuid": "GPU-1"}]}', "is not a layout that gpufleet-mig wrote"),
        ('{"gpus": 3}', "is not a layout that gpufleet-mig wrote"),
        ("[]", "is not a layout that gpufleet-mig wrote"),
    ],
)
def test_a_layout_that_cannot_be_read_changes_nothing(make_host: MakeBootHost, content: str | None, said: str) -> None:
    host = make_host({"product": H100, "mig": ON})
    stood = host.lines()
    if content is not None:
        host.layout.write_text(content)
    for words in (["plan"], ["apply"], ["apply", "--boot"]):
        done = host.command(*words)
        assert done.code == 1
        assert said in done.err
        assert "Traceback" not in done.err
    assert host.command("show").out == f"{stood[0]}\n"
    assert host.lines() == stood


def test_plan_foretells_and_touches_nothing(make_host: MakeBootHost) -> None:
    host = make_host({"product": A100, "mig": ON})
    stood = host.partition("all-balanced")
    host.reboot()
    done = host.command("plan")
    assert (done.code, done.out) == (0, f"{stood[0]}\nchanged\n")
    assert host.writes() == []
    shown = host.command("show")
    assert shown.code == 3
    assert "GPU 0 lacks" in shown.err
    host.command("apply")
    assert host.command("show") == (0, f"{stood[0]}\n", "")


def test_the_driver_is_missing(make_host: MakeBootHost) -> None:
    host = make_host({"product": H100, "mig": ON})
    host.partition("all-balanced")
    host.simctl("driver", "unload")
    done = host.command("apply", "--boot")
    assert done.code == 1
    assert "The NVIDIA driver is not loaded on this host" in done.err


@pytest.mark.skipif(oldest_python() is None, reason="this machine has no python3.9")
def test_on_the_oldest_python(make_host: MakeBootHost) -> None:
    host = make_host({"product": A100, "mig": ON}, H100)
    stood = host.partition("all-balanced")
    host.reboot()
    done = host.command("apply", "--boot", "--metrics", str(host.metrics), python=str(oldest_python()))
    assert done.code == 0, done.err
    assert host.lines() == stood


def test_compiled_code_is_used_for_its_archive_and_its_python_only(make_host: MakeBootHost) -> None:
    host = make_host({"product": H100, "mig": ON})
    stood = host.partition("all-balanced")
    assert host.command("compile").code == 0
    compiled = host.program.with_suffix(".compiled")

    def source_of_pynvml(python: str = BARE) -> str:
        program = f"import sys, runpy; sys.argv = [{str(host.program)!r}, 'show', '--layout', {str(host.layout)!r}]\n"
        program += f"try: runpy.run_path({str(host.program)!r}, run_name='__main__')\n"
        program += "finally: print(sys.modules['pynvml'].__file__)"
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, env=host.environment, check=False
        )
        assert done.stdout.startswith(f"{stood[0]}\n"), done.stderr
        return done.stdout.splitlines()[-1]

    assert source_of_pynvml() == f"{compiled}/pynvml.pyc"
    other = compiled.read_bytes()
    compiled.write_bytes(other[:-1] + bytes([other[-1] ^ 1]))  # made of another archive, or by another Python
    assert source_of_pynvml() == f"{host.program}/pynvml.py"
    host.reboot()
    assert host.command("apply", "--boot").code == 0
    assert host.lines() == stood


def test_the_first_line_starts_it(make_host: MakeBootHost) -> None:
    host = make_host({"product": H100, "mig": ON})
    host.program.chmod(0o755)
    command = [str(host.program), "export", "--journal", str(host.journal)]
    done = subprocess.run(command, capture_output=True, text=True, env=host.environment, check=True)
    assert [gpu["wanted"] for gpu in json.loads(done.stdout)["gpus"]] == [{"mig": "enabled"}]
    assert host.program.read_bytes().startswith(f"#!{BARE} -I\n".encode())
