# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GPU host of the simulated NVML, and the collection's modules run on it.

A module runs in a forked child of the test: it may change its user or be killed, and costs no start of Python.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pynvml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.gpufleet.mig.plugins.module_utils._changes import line

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("GPUFLEET_SIMULATOR_BUILD") or ROOT / "build" / "simulator")
MODULES = "ansible_collections.gpufleet.mig.plugins.modules"
NOBODY = 65534
Answer = dict[str, Any]


def own_etc(folder: Path | str) -> str:
    """Shell words for a mount namespace: what is written to /etc goes to this folder, and not to this machine."""
    layers = f"lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work"
    return f"mkdir -p {folder}/upper {folder}/work && mount -t overlay overlay -o {layers} /etc"


@cache
def build_simulator() -> Path:
    """The folder with the library and its programs, made where something is missing or old."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers build once between them
        command = ["make", "-C", str(ROOT / "tests/simulator"), f"BUILD={BUILD}", f"PYTHON={sys.executable}"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    return BUILD


class SimulatedHost:
    """One host with the given GPUs: keys of the product facts, or mappings as simctl's specification has them."""

    def __init__(self, folder: Path, gpus: Sequence[str | dict[str, Any]], **host: Any) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.folder = folder
        self.state = folder / "nvml.state"
        self.journal = folder / "journal" / "journal.json"
        described = [{"product": gpu} if isinstance(gpu, str) else gpu for gpu in gpus]
        specification = folder / "host.json"
        specification.write_text(json.dumps({"seed": 1, **host, "gpus": described}))
        self.simctl("init", str(specification))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see the simulated driver."""
        path = f"{BUILD}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "NVML_SIM_STATE": str(self.state), "LD_LIBRARY_PATH": str(BUILD), "PATH": path}

    def simctl(self, *words: str | int) -> str:
        """Make or break something on the host, as the simulator's README says."""
        command = [str(BUILD / "simctl"), "--state", str(self.state), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, module: str, *, check: bool = False, user: int = 0, **arguments: Any) -> Answer:
        """The answer of a module; `failed` is in it where the module failed."""
        status, answer = self.try_to_run(module, check=check, user=user, **arguments)
        assert answer is not None, f"the module gave no answer: wait status {status}"
        return answer

    def try_to_run(
        self, module: str, *, check: bool = False, user: int = 0, **arguments: Any
    ) -> tuple[int, Answer | None]:
        """How the module's process ended (as os.wait has it), and its answer, None where it gave none."""
        if not module.endswith("_info"):
            arguments.setdefault("journal", str(self.journal))
        options = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        output = self.folder / "output"
        program = importlib.import_module(f"{MODULES}.{module}")
        child = os.fork()
        if child == 0:
            self._be_the_module(program, options, output, user)
        _pid, status = os.waitpid(child, 0)
        text = output.read_text()
        try:
            return status, json.loads(text)
        except ValueError:
            assert os.WIFSIGNALED(status), text
            return status, None

    def _be_the_module(self, program: Any, options: dict[str, Any], output: Path, user: int) -> None:
        """The rest of the child's life."""
        try:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            os.environ.update(self.environment)
            # pynvml asks the linker for libnvidia-ml.so.1, which is then already there by its soname
            ctypes.CDLL(str(BUILD / "libnvidia-ml.so.1"), ctypes.RTLD_GLOBAL)
            pynvml.nvmlLib = None
            if user:
                os.setgid(user)
                os.setuid(user)
            with patch_module_args(options):
                program.main()
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs as mig_info shows them."""
        answer = self.run("mig_info")
        assert not answer.get("failed"), answer
        found: list[dict[str, Any]] = answer["gpus"]
        return found

    def lines(self) -> list[str]:
        """What stands, in one line per GPU."""
        return [line(gpu) for gpu in self.gpus()]

    def uuids(self) -> dict[tuple[int, int], str]:
        """The MIG UUID of every compute instance by (GPU, start of its GPU instance)."""
        return {
            (gpu["index"], instance["start"]): ci["uuid"]
            for gpu in self.gpus()
            for instance in gpu["instances"]
            for ci in instance["compute_instances"]
        }

    def writes(self) -> list[str]:
        """The calls that could change something since the last `forget_calls`, without number and process."""
        return [text.split(" ", 3)[3] for text in self.simctl("log", "--writes").splitlines()]

    def forget_calls(self) -> None:
        self.simctl("clear-log")

    def clear_faults(self) -> None:
        self.simctl("clear-faults")


Host = TypeVar("Host", bound=SimulatedHost)


@contextmanager
def fresh_hosts(kind: type[Host]) -> Iterator[Callable[..., Host]]:
    """A function that gives a fresh host with the GPUs named. Every user may look into the hosts' folder."""
    build_simulator()
    folder = Path(tempfile.mkdtemp(prefix="simulated-"))
    folder.chmod(0o755)
    numbers = itertools.count()
    try:
        yield lambda *gpus, **host: kind(folder / str(next(numbers)), gpus, **host)
    finally:
        shutil.rmtree(folder)


def place_of(line_of_log: str) -> str:
    """The function of a line of `writes`."""
    return line_of_log.split(" ", 1)[0]
