# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What `build` makes and keeps in the cache: real programs, host tree, simulator, publishers, images."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import binaries, rootfs
from .console import say, step
from .settings import CACHE, GO_VERSION, IMAGES_SOURCE, PUBLISHERS_SOURCE, ROOT, SIMULATOR_SOURCE
from .shell import digest_of, locked, run, whole_folder
from .toolchain import ensure_packages, go_binary, go_environment

_FACTS = ROOT / "facts" / "mig_products.yaml"


def simulator() -> Path:
    return CACHE / "simulator" / digest_of([SIMULATOR_SOURCE, _FACTS])


def publishers() -> Path:
    return CACHE / "publishers" / digest_of([PUBLISHERS_SOURCE, GO_VERSION])


def images() -> Path:
    sources: list[str | bytes | Path] = [str(publishers()), str(simulator()), rootfs.base_tree().name, IMAGES_SOURCE]
    return CACHE / "images" / digest_of(sources)


def image_archives() -> list[Path]:
    return sorted(images().glob("*.tar"))


def _build_simulator() -> None:
    target = simulator()
    if target.exists():
        return
    with step("building the simulated NVML", 10), whole_folder(target) as scratch:
        run("make", "-C", SIMULATOR_SOURCE, f"BUILD={scratch}", f"PYTHON={sys.executable}")


def _build_publishers() -> None:
    target = publishers()
    if target.exists():
        return
    with step("building the publishers' stand-ins", 60), whole_folder(target) as scratch:
        run(
            "nice", go_binary(), "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{scratch}/", "./cmd/...",
            cwd=PUBLISHERS_SOURCE, env={**go_environment(), "CGO_ENABLED": "1"},
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


def build() -> None:
    """Make whatever is missing. Compilations run one after the other, downloads and the Debian tree beside them."""
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
