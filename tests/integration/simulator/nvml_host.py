# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A simulated host as a program with pynvml sees it, and its calls in as few words as possible.

What a test passes to `ask` runs in a forked child with NVML initialised: the child may change its user or be killed.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint
from pathlib import Path
from typing import Any, TypeVar

import pynvml
import yaml
from integration.modules.simulated_host import BUILD, NOBODY, SimulatedHost

T = TypeVar("T")
FACTS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "facts" / "mig_products.yaml").read_text()
)
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PRODUCTS: dict[str, dict[str, Any]] = {product["key"]: product for product in FACTS["products"]}
A100, A100_80, H100, A30, RTX = (
    "a100-sxm4-40gb",
    "a100-sxm4-80gb",
    "h100-sxm5-80gb",
    "a30",
    "rtx-pro-6000-server",
)


class Killed(Exception):
    """The child was ended by a signal."""


class Refused(Exception):
    """An NVML call failed in the child and nothing there expected it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block must fail with this NVML return value."""
    happened = pynvml.NVML_SUCCESS
    try:
        yield
    except pynvml.NVMLError as error:
        happened = error.value
    assert happened == code, f"wanted the call to fail with NVML error {code}, got {happened}"


def each(call: Callable[..., T], handle: Any, numbers: Iterable[int], *more: Any, absent: tuple[int, ...]) -> list[T]:
    """What the call gives for each number; a number that fails with one of `absent` is left out."""
    found = []
    for number in numbers:
        try:
            found.append(call(handle, number, *more))
        except pynvml.NVMLError as error:
            if error.value not in absent:
                raise
    return found


UNKNOWN = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT)
HOLE = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT)


class Instance:
    """A GPU instance by its handle."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @property
    def info(self) -> Any:
        return pynvml.nvmlGpuInstanceGetInfo(self.handle)

    @property
    def place(self) -> tuple[int, int, int]:
        """(profile id, start, size)"""
        info = self.info
        return info.profileId, info.placement.start, info.placement.size

    def fill(self, profile: int, start: int | None = None, size: int | None = None) -> Any:
        """A compute instance: its handle."""
        if start is None:
            return pynvml.nvmlGpuInstanceCreateComputeInstance(self.handle, profile)
        place = pynvml.c_nvmlComputeInstancePlacement_t(start, size or 1)
        return pynvml.nvmlGpuInstanceCreateComputeInstanceWithPlacement(self.handle, profile, byref(place))

    def destroy(self) -> None:
        pynvml.nvmlGpuInstanceDestroy(self.handle)

    def compute_profiles(self) -> list[Any]:
        """What NVML offers to put into it, by index; what it does not offer is left out."""
        indices = range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
        return each(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, self.handle, indices, 0, absent=UNKNOWN)

    def computes(self, profile: int) -> list[Any]:
        found, count = (pynvml.c_nvmlComputeInstance_t * 8)(), c_uint(8)
        pynvml.nvmlGpuInstanceGetComputeInstances(self.handle, profile, found, byref(count))
        return [found[number] for number in range(count.value)]


class Gpu:
    """A GPU by its handle. Modes are (current, pending) with 1 for enabled."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @property
    def mode(self) -> tuple[int, int]:
        current, pending = pynvml.nvmlDeviceGetMigMode(self.handle)
        return current, pending

    def set_mode(self, mode: int) -> int:
        """The activation status."""
        return int(pynvml.nvmlDeviceSetMigMode(self.handle, mode))

    def profiles(self) -> list[Any]:
        indices = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)
        return each(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, self.handle, indices, absent=UNKNOWN)

    def places(self, profile: int) -> list[tuple[int, int]]:
        count = c_uint(0)
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(self.handle, profile, None, byref(count))
        places = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(self.handle, profile, places, byref(count))
        return [(place.start, place.size) for place in places]

    def create(self, profile: int, start: int | None = None, size: int | None = None) -> Instance:
        """Without a start the driver chooses the place."""
        if start is None:
            return Instance(pynvml.nvmlDeviceCreateGpuInstance(self.handle, profile))
        wanted = self.places(profile)[0][1] if size is None else size
        place = pynvml.c_nvmlGpuInstancePlacement_t(start, wanted)
        return Instance(pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(self.handle, profile, byref(place)))

    def instances(self) -> list[Instance]:
        """All of them, by asking for each profile, as programs have to."""
        found = []
        for profile in self.profiles():
            handles, count = (pynvml.c_nvmlGpuInstance_t * profile.instanceCount)(), c_uint(profile.instanceCount)
            pynvml.nvmlDeviceGetGpuInstances(self.handle, profile.id, handles, byref(count))
            found += [Instance(handles[number]) for number in range(count.value)]
        return found

    def layout(self) -> list[tuple[int, int, int]]:
        return sorted(instance.place for instance in self.instances())

    def room(self, profile: int) -> int:
        return int(pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(self.handle, profile))

    def rooms(self) -> dict[int, int]:
        return {profile.id: self.room(profile.id) for profile in self.profiles()}

    def devices(self) -> list[Any]:
        """Handles of the MIG devices, walking the indices and skipping holes, as NVIDIA's DRA driver does."""
        indices = range(pynvml.nvmlDeviceGetMaxMigDeviceCount(self.handle))
        return each(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, self.handle, indices, absent=HOLE)

    def uuids(self) -> list[str]:
        return [pynvml.nvmlDeviceGetUUID(device) for device in self.devices()]


def gpu(index: int = 0) -> Gpu:
    return Gpu(pynvml.nvmlDeviceGetHandleByIndex(index))


def become_nobody() -> None:
    """For the rest of the child's life."""
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _live(function: Callable[[], Any], environment: dict[str, str], pipe: int) -> None:
    """The child's life: what it has to say goes through the pipe."""
    try:
        os.environ.update(environment)
        # pynvml asks the linker for libnvidia-ml.so.1, which is then already there by its soname
        ctypes.CDLL(str(BUILD / "libnvidia-ml.so.1"), ctypes.RTLD_GLOBAL)
        pynvml.nvmlLib = None
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlInit()
        said: tuple[str, Any] = ("result", function())
    except pynvml.NVMLError as error:
        said = ("refused", (int(error.value), str(error)))
    except BaseException:
        said = ("failed", traceback.format_exc())
    os.write(pipe, pickle.dumps(said))
    os._exit(0)


class Asked:
    """A child on its way."""

    def __init__(self, function: Callable[[], Any], environment: dict[str, str]) -> None:
        self._pipe, pipe = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            _live(function, environment, pipe)
        os.close(pipe)

    def answer(self) -> Any:
        with os.fdopen(self._pipe, "rb") as stream:
            text = stream.read()
        _pid, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            raise Killed(signal.Signals(os.WTERMSIG(status)).name)
        kind, value = pickle.loads(text)  # noqa: S301 - of our own child
        if kind == "refused":
            raise Refused(*value)
        assert kind == "result", f"in the child:\n{value}"
        return value


class NvmlHost(SimulatedHost):
    """A simulated host: `ask` it through NVML, or run programs on it."""

    def begin(self, function: Callable[[], Any]) -> Asked:
        """Start a child that runs the function; its answer comes later."""
        return Asked(function, self.environment)

    def ask(self, function: Callable[[], T]) -> T:
        """What the function gives back in a process of its own with NVML initialised."""
        answer: T = self.begin(function).answer()
        return answer

    def program(self, name: str, *words: str | int, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Run nvidia-smi or another of the simulation's programs."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return subprocess.run(
            [*become, str(BUILD / name), *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def smi(self, *words: str | int, user: int = 0) -> subprocess.CompletedProcess[str]:
        return self.program("nvidia-smi", *words, user=user)

    def reset(self, index: int = 0) -> None:
        """A reset from outside, as nvidia-smi does it; refused while a process is on the GPU."""
        done = self.smi("--gpu-reset", "-i", index)
        assert done.returncode == 0, done.stdout


def enabled(product: str, **more: Any) -> dict[str, Any]:
    """The specification of a GPU with MIG on."""
    return {"product": product, "mig": "enabled", **more}
