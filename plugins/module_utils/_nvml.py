# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVIDIA Management Library: loading it, calling it, saying in words what is missing. The only import of pynvml.

pynvml loads libnvidia-ml.so.1 by its bare name, so the dynamic linker's path decides which library answers.
"""

from __future__ import annotations

import importlib
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import Array, byref, c_uint
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

PRIVATE_FOLDER = Path("/usr/local/lib/gpufleet-mig")
"""Where the roles put pynvml.py, so that the system's Python stays as it is."""

MINIMUM_DRIVER = (525, 60, 13)
"""The first R525 driver: it has places for compute instances and the 1g profile of double memory (NVIDIA MIG guide)."""

NOT_FOR_THIS = (2, 3)
"""INVALID_ARGUMENT and NOT_SUPPORTED: how NVML says that a board lacks a profile or a query (nvml.h)."""

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 2, 3, 4, 6
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, GPU_IS_LOST = 9, 12, 13, 15
RESET_REQUIRED, LIBRARY_MISMATCH, IN_USE, INSUFFICIENT_RESOURCES = 16, 18, 19, 23

NEEDED = (
    "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceGetComputeInstancePossiblePlacements",
    "nvmlGpuInstanceCreateComputeInstanceWithPlacement",
    "nvmlComputeInstanceGetInfo_v2",
)
"""C functions that not every driver with MIG has, and that a change cannot do without."""


class NvmlError(MigError):
    """An NVML call that failed: `code` is the NVML return value, `function` the call."""

    def __init__(self, message: str, code: int, function: str) -> None:
        super().__init__(message, nvml_function=function, nvml_code=code)
        self.code = code
        self.function = function


class Nvml:
    """An initialised NVML. Handles are good until `close`; after a GPU's reset they are taken again by UUID.

    `lib` is the module pynvml, for its structures. Calls may be made from several threads.
    """

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self._handles: dict[str, Any] = {}

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Nvml]:
        """NVML for the length of a with block. MigError says what to install where there is none."""
        nvml = cls(load_pynvml())
        nvml.start()
        try:
            yield nvml
        finally:
            # the process ends soon and gives everything back: a failure here must not hide what went before
            with suppress(NvmlError):
                nvml.close()

    def start(self) -> None:
        """Initialise the library; also after `close`, which a GPU reset from outside needs first."""
        try:
            self.call("nvmlInit")
        except NvmlError as error:
            raise _no_driver(error) from None

    def close(self) -> None:
        """Give up the library: no GPU is held open by this process any more."""
        self._handles.clear()
        self.call("nvmlShutdown")

    def call(self, name: str, *arguments: Any) -> Any:
        """pynvml's function of that name. NvmlError where NVML fails or either side is too old to know the function."""
        function = getattr(self.lib, name, None)
        if function is None:
            raise NvmlError(
                f"The Python module pynvml of this host ({self.lib.__file__}) is too old: it lacks {name}. "
                "Install the Python package nvidia-ml-py 12.535 or newer.",
                FUNCTION_NOT_FOUND,
                name,
            )
        try:
            return function(*arguments)
        except self.lib.NVMLError as error:
            raise NvmlError(f"{name}: {error}", int(error.value), name) from None

    def ask(self, name: str, *arguments: Any) -> Any:
        """As `call`, but None where the board or driver does not know what is asked for."""
        try:
            return self.call(name, *arguments)
        except NvmlError as error:
            if error.code in (*NOT_FOR_THIS, NOT_FOUND, FUNCTION_NOT_FOUND):
                return None
            raise

    def device(self, uuid: str) -> Any:
        """The handle of the GPU with this UUID: index and minor number may change when a GPU is reset."""
        if uuid not in self._handles:
            self._handles[uuid] = self.call("nvmlDeviceGetHandleByUUID", uuid)
        return self._handles[uuid]

    def forget(self, uuid: str) -> None:
        """Take the handle of this GPU anew at its next use."""
        self._handles.pop(uuid, None)

    def handles(self, name: str, owner: Any, profile: int, room: int) -> list[Any]:
        """What nvmlDeviceGetGpuInstances or nvmlGpuInstanceGetComputeInstances lists: instances of one profile id."""
        kind = self.lib.c_nvmlGpuInstance_t if name.startswith("nvmlDevice") else self.lib.c_nvmlComputeInstance_t
        found: Array[Any] = (kind * room)()
        count = c_uint(room)
        self.call(name, owner, profile, found, byref(count))
        return [found[number] for number in range(min(count.value, room))]

    def placements(self, device: Any, profile: int) -> list[tuple[int, int]]:
        """(start, size) in memory slices of every place of a GPU-instance profile. Privileged."""
        kind = self.lib.c_nvmlGpuInstancePlacement_t
        return self._places("nvmlDeviceGetGpuInstancePossiblePlacements", device, profile, kind)

    def compute_placements(self, instance: Any, profile: int) -> list[tuple[int, int]]:
        """The same of a compute-instance profile in a GPU instance, in compute slices. Privileged."""
        kind = self.lib.c_nvmlComputeInstancePlacement_t
        return self._places("nvmlGpuInstanceGetComputeInstancePossiblePlacements", instance, profile, kind)

    def _places(self, name: str, owner: Any, profile: int, kind: Any) -> list[tuple[int, int]]:
        """Asked twice: no error is documented for an array that is too small (nvml.h)."""
        count = c_uint(0)
        self.call(name, owner, profile, None, byref(count))
        places: Array[Any] = (kind * max(count.value, 1))()
        self.call(name, owner, profile, places, byref(count))
        return [(places[number].start, places[number].size) for number in range(count.value)]

    def create_gpu_instance(self, device: Any, profile: int, start: int, size: int) -> Any:
        """A GPU instance at its place, in memory slices. pynvml passes the placement on as it is: by reference."""
        place = self.lib.c_nvmlGpuInstancePlacement_t(start, size)
        return self.call("nvmlDeviceCreateGpuInstanceWithPlacement", device, profile, byref(place))

    def create_compute_instance(self, instance: Any, profile: int, start: int, size: int) -> Any:
        """A compute instance of `size` slices at its place, in compute slices of its GPU instance.

        The place may be wider than the slices (listings of H100): NVML is asked, and has its own size back.
        """
        size = dict(self.compute_placements(instance, profile)).get(start, size)
        place = self.lib.c_nvmlComputeInstancePlacement_t(start, size)
        return self.call("nvmlGpuInstanceCreateComputeInstanceWithPlacement", instance, profile, byref(place))

    def driver_version(self) -> str:
        """The driver's version, such as 580.82.07."""
        return text(self.call("nvmlSystemGetDriverVersion"))

    def check_can_change(self) -> None:
        """MigError where this driver lacks what a change of instances needs. Only reads."""
        version = self.driver_version()
        wanted = ".".join(f"{part:02d}" for part in MINIMUM_DRIVER)
        if tuple(int(part) for part in version.split(".") if part.isdigit()) < MINIMUM_DRIVER:
            raise MigError(
                f"The NVIDIA driver {version} of this host is too old to change MIG instances: driver {wanted} or "
                "newer is needed. Nothing was changed; install a newer driver.",
                driver_version=version,
                driver_wanted=wanted,
            )
        missing = [name for name in NEEDED if not hasattr(self.lib.nvmlLib, name)]
        if missing:
            raise MigError(
                f"libnvidia-ml.so.1 of this host (driver {version}) lacks {', '.join(missing)}: the library belongs to "
                f"a driver older than {wanted}. Nothing was changed; install one driver completely.",
                driver_version=version,
                driver_wanted=wanted,
            )


def text(value: Any) -> str:
    """NVML's text: older pynvml gives bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def load_pynvml() -> Any:
    """The module pynvml: the interpreter's own, else the one in the collection's private folder."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        pass
    source = PRIVATE_FOLDER / "pynvml.py"
    if not source.is_file():
        raise MigError(
            f"Python's module pynvml is missing for {sys.executable}: install the package nvidia-ml-py there, or put "
            f"its pynvml.py into {PRIVATE_FOLDER} (role gpufleet.mig.mig does).",
            pynvml_missing=True,
        )
    for path in (PRIVATE_FOLDER, source):
        if not trusted(path):
            raise MigError(
                f"{path} is not used: others than root could write it. "
                f"Make it root's and writable by root only (chown root:root, chmod go-w {path})."
            )
    sys.path.append(str(PRIVATE_FOLDER))
    try:
        return importlib.import_module("pynvml")
    finally:
        sys.path.remove(str(PRIVATE_FOLDER))


def trusted(path: Path, owner: int = 0) -> bool:
    """Whether only `owner` can write a file or folder: code from it runs as root."""
    status = path.stat()
    return status.st_uid == owner and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _no_driver(error: NvmlError) -> MigError:
    """What to do where NVML cannot be initialised."""
    causes = {
        LIBRARY_NOT_FOUND: (
            "libnvidia-ml.so.1 is not found on this host: install the NVIDIA driver "
            "(it brings that library; on Debian and Ubuntu the package libnvidia-compute or nvidia-driver)."
        ),
        DRIVER_NOT_LOADED: (
            "The NVIDIA driver is not loaded on this host: install it, or load it (modprobe nvidia) "
            "and look into dmesg if that fails."
        ),
        LIBRARY_MISMATCH: (
            "The loaded NVIDIA kernel module and libnvidia-ml.so.1 are of different driver versions, as after an "
            "update of the driver: reload the module or reboot the host."
        ),
        NO_PERMISSION: "NVML may not be used by this user: run as root (become: true).",
    }
    message = causes.get(error.code, f"NVML cannot be initialised on this host ({error}).")
    return MigError(message, **error.context)
