# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What `build` makes and keeps in the cache: real programs, host tree, simulator, publishers, images."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import binaries, rootfs
from .console import say, step
from .settings import (
    CACHE,
    GO_VERSION,
    IMAGES_SOURCE,
    OFFICIAL_CHART,
    OFFICIAL_IMAGES,
    PUBLISHERS,
    PUBLISHERS_SOURCE,
    ROOT,
    SIMULATOR_SOURCE,
    LabError,
)
from .shell import digest_of, locked, run, whole_folder
from .toolchain import ensure_packages, go_binary, go_environment

_STAND_INS = "device-plugin"
_FACTS = ROOT / "facts" / "mig_products.yaml"


def simulator() -> Path:
    return CACHE / "simulator" / digest_of([SIMULATOR_SOURCE, _FACTS])


def publishers() -> Path:
    return CACHE / "publishers" / digest_of([PUBLISHERS_SOURCE, GO_VERSION])


def images() -> Path:
    sources: list[str | bytes | Path] = [str(publishers()), str(simulator()), rootfs.base_tree().name, IMAGES_SOURCE]
    return CACHE / "images" / digest_of(sources)


def image_archives() -> dict[str, Path]:
    """What every host gets, by digest. Archives of the official publishers come instead of the stand-ins' one."""
    archives = sorted(images().glob("*.tar"))
    if check_publishers():
        archives = [path for path in archives if path.stem != _STAND_INS] + official_archives()
    return {digest_of([path]): path for path in archives}


def official_archives() -> list[Path]:
    return sorted(path for path in Path(OFFICIAL_IMAGES).glob("*.tar*") if path.is_file())


def check_publishers() -> bool:
    """Whether the official publishers are wanted; LabError when the settings do not go together."""
    if PUBLISHERS not in ("stand-ins", "official"):
        raise LabError(f"GPUFLEET_LAB_PUBLISHERS is {PUBLISHERS!r}; it may be stand-ins or official.")
    if PUBLISHERS == "stand-ins":
        if OFFICIAL_CHART or OFFICIAL_IMAGES:
            raise LabError(
                "GPUFLEET_LAB_OFFICIAL_CHART or _IMAGES is set, but GPUFLEET_LAB_PUBLISHERS is not official: "
                "chart and programs would not belong together. Set all three or none."
            )
        return False
    chart = Path(OFFICIAL_CHART)
    if not OFFICIAL_CHART.startswith("oci://") and not (chart / "Chart.yaml").is_file() and not chart.is_file():
        raise LabError(
            f"GPUFLEET_LAB_OFFICIAL_CHART={OFFICIAL_CHART} must name the chart nvidia-device-plugin: a directory, "
            "an archive, or an oci:// reference."
        )
    if not OFFICIAL_IMAGES or not official_archives():
        raise LabError(
            f"GPUFLEET_LAB_OFFICIAL_IMAGES={OFFICIAL_IMAGES} must be a folder with image archives (*.tar, from "
            "`docker save` or `skopeo copy`) of all images that the chart names."
        )
    return True


def _build_simulator() -> None:
    target = simulator()
    if target.exists():
        return
    with step("building the simulated NVML", 10), whole_folder(target) as scratch:
        run("make", "-C", SIMULATOR_SOURCE, f"BUILD={scratch}", f"PYTHON={sys.executable}", whole_tree=True)


def _build_publishers() -> None:
    target = publishers()
    if target.exists():
        return
    with step("building the publishers' stand-ins", 60), whole_folder(target) as scratch:
        run(
            "nice", go_binary(), "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{scratch}/", "./cmd/...",
            cwd=PUBLISHERS_SOURCE, env={**go_environment(), "CGO_ENABLED": "1"}, whole_tree=True,
        )  # fmt: skip


def _build_images() -> None:
    target = images()
    if target.exists():
        return
    with step("making the images", 10), whole_folder(target) as scratch:
        run(
            sys.executable, IMAGES_SOURCE / "build.py", "--out", scratch,
            "--publishers", publishers(), "--simulator", simulator(),
        )  # fmt: skip


_HOST_GROUPS = [group for group in binaries.GROUPS if group.name in ("containers", "nvidia")]


def parts_built() -> bool:
    return simulator().exists() and all(group.folder.exists() for group in _HOST_GROUPS)


def build_parts() -> None:
    """What hosts without a cluster need of it."""
    ensure_packages()
    _build_simulator()
    for group in _HOST_GROUPS:
        binaries.build_group(group)


def build() -> None:
    """Make whatever is missing. Compilations run one after the other, downloads and the Debian tree beside them."""
    check_publishers()
    with locked(CACHE / ".build.lock", "another command is building; waiting for it"):
        ensure_packages()
        with ThreadPoolExecutor(max_workers=2) as beside:
            running = [beside.submit(rootfs.build_base_tree), beside.submit(binaries.download_modules)]
            try:
                _build_simulator()
                for group in binaries.GROUPS:
                    binaries.build_group(group)
                _build_publishers()
            finally:
                for future in running:
                    future.cancel()
            for future in running:
                future.result()
        rootfs.build_programs_layer()
        rootfs.build_driver_layer(simulator())
        _build_images()
        say(f"everything is built: {CACHE}")
