# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Two signed apt repositories: the driver in two branches, and the container toolkit.

Packages are named as NVIDIA's CUDA repository for Debian 12 and its container toolkit repository name them (sources:
docs/hosts.md). They bring the simulated library, nvidia-smi and units, and where DKMS would leave a kernel module,
a file that says version and flavour (tests/lab/host/kernel loads it).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from . import artifacts, binaries
from .console import step
from .settings import CACHE
from .shell import digest_of, run, whole_folder, write

DRIVERS = ("570.172.08", "580.95.05")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_UNITS = "usr/lib/systemd/system"
_TOOLKIT = ("nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-runtime", "nvidia-container-runtime.cdi")


@dataclass(frozen=True)
class Package:
    """A binary package: files by path (text, or a file to copy; a text that begins with -> is a link), scripts."""

    name: str
    version: str
    depends: str = ""
    relations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | Path] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)


def _unit(description: str, program: str, more: str = "") -> str:
    return (
        f"[Unit]\nDescription={description}\n{more}\n[Service]\nExecStart={program}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


_ENABLE = "#!/bin/sh\nset -e\nsystemctl --quiet enable {unit} || true\n"
_DISABLE = "#!/bin/sh\nset -e\nsystemctl --quiet disable --now {unit} || true\n"

# As the real one it works only with the kernel module of its own version.
_FABRIC_MANAGER = """\
#!/bin/sh
if ! grep -qs ' {version} ' /proc/driver/nvidia/version; then
  echo "fabric manager {version}: the NVIDIA kernel module of this version is not loaded" >&2
  exit 1
fi
exec sleep infinity
"""
_PERSISTENCED = """\
#!/bin/sh
[ -e /dev/nvidiactl ] || { echo "Failed to query NVIDIA devices." >&2; exit 1; }
exec sleep infinity
"""
# What DKMS does on a real host: a module for each kernel whose headers are there.
_BUILD = """\
#!/bin/sh
set -e
if [ ! -d /usr/lib/modules/$(uname -r)/build ]; then
  echo "{name}: no headers of $(uname -r), no module is built"
  exit 0
fi
mkdir -p /usr/lib/modules/$(uname -r)/updates/dkms
printf 'version={version}\\nflavour={flavour}\\n' >/usr/lib/modules/$(uname -r)/updates/dkms/nvidia.ko
"""
_CONFIGURE = (
    "#!/bin/sh\nset -e\nnvidia-ctk --quiet config --config-file=/etc/nvidia-container-runtime/config.toml --in-place\n"
)
_UNBUILD = "#!/bin/sh\nset -e\nrm -f /usr/lib/modules/$(uname -r)/updates/dkms/nvidia.ko\n"


def _driver(version: str) -> list[Package]:
    simulator = artifacts.simulator()
    full = f"{version}-1"

    def library(package: str, stem: str) -> Package:
        return Package(
            package,
            full,
            files={
                f"{_LIBRARIES}/{stem}.{version}": simulator / f"{stem}.1",
                f"{_LIBRARIES}/{stem}.1": f"->{stem}.{version}",
            },
        )

    def modules(package: str, flavour: str, other: str) -> Package:
        return Package(
            package,
            full,
            relations={"Conflicts": other, "Replaces": other},
            files={f"usr/src/nvidia-{version}/dkms.conf": f'PACKAGE_NAME="nvidia"\nPACKAGE_VERSION="{version}"\n'},
            scripts={"postinst": _BUILD.format(name=package, version=version, flavour=flavour), "prerm": _UNBUILD},
        )

    # Since 580 its name has no branch any more.
    fabric = "nvidia-fabricmanager" + ("" if int(version.split(".")[0]) >= 580 else f"-{version.split('.')[0]}")
    return [
        library("libnvidia-ml1", "libnvidia-ml.so"),
        library("libcuda1", "libcuda.so"),
        Package(
            "nvidia-driver-cuda",
            full,
            depends=f"libnvidia-ml1 (= {full}), libcuda1 (= {full}), nvidia-persistenced",
            files={"usr/bin/nvidia-smi": simulator / "nvidia-smi"},
        ),
        modules("nvidia-kernel-open-dkms", "open", "nvidia-kernel-dkms"),
        modules("nvidia-kernel-dkms", "proprietary", "nvidia-kernel-open-dkms"),
        Package(
            "nvidia-persistenced",
            full,
            files={
                "usr/bin/nvidia-persistenced": _PERSISTENCED,
                f"{_UNITS}/nvidia-persistenced.service": _unit(
                    "NVIDIA Persistence Daemon", "/usr/bin/nvidia-persistenced"
                ),
            },
            scripts={
                "postinst": _ENABLE.format(unit="nvidia-persistenced"),
                "prerm": _DISABLE.format(unit="nvidia-persistenced"),
            },
        ),
        Package(
            fabric,
            full,
            relations={"Provides": "nvidia-fabricmanager-any", "Conflicts": "nvidia-fabricmanager-any"},
            files={
                "usr/bin/nv-fabricmanager": _FABRIC_MANAGER.format(version=version),
                f"{_UNITS}/nvidia-fabricmanager.service": _unit(
                    "NVIDIA fabric manager service", "/usr/bin/nv-fabricmanager"
                ),
            },
            scripts={"prerm": _DISABLE.format(unit="nvidia-fabricmanager")},
        ),
    ]


def _dcgm() -> Package:
    """A service that holds the first GPU, as the real one holds all."""
    return Package(
        "datacenter-gpu-manager-4-core",
        "1:4.4.1-1",
        files={
            "usr/bin/nv-hostengine": artifacts.simulator() / "gpu-holder",
            f"{_UNITS}/nvidia-dcgm.service": _unit(
                "NVIDIA DCGM service", "/usr/bin/nv-hostengine --name nv-hostengine"
            ),
        },
        scripts={"prerm": _DISABLE.format(unit="nvidia-dcgm")},
    )


def _headers() -> Package:
    kernel = os.uname().release
    return Package(
        f"linux-headers-{kernel}", "1", files={f"usr/lib/modules/{kernel}/build/Makefile": "# nothing is built here\n"}
    )


def _toolkit() -> list[Package]:
    group = next(group for group in binaries.GROUPS if group.name == "nvidia")
    version = group.version().lstrip("v") + "-1"
    return [
        Package(
            "nvidia-container-toolkit-base",
            version,
            files={f"usr/bin/{name}": binaries.program(name) for name in _TOOLKIT},
            scripts={"postinst": _CONFIGURE},
        ),
        Package("nvidia-container-toolkit", version, depends=f"nvidia-container-toolkit-base (= {version})"),
    ]


def folder() -> Path:
    sources: list[str | bytes | Path] = [Path(__file__), str(artifacts.simulator()), os.uname().release]
    return CACHE / "packages" / digest_of([*sources, *(str(binaries.program(name)) for name in _TOOLKIT)])


def fingerprint() -> str:
    """Of the key that signs both repositories; it is made with them and thrown away with them."""
    return (folder() / "fingerprint").read_text()


def build() -> None:
    target = folder()
    if target.exists():
        return
    with step("making the apt repositories", 20), whole_folder(target) as scratch:
        keys = scratch / "gnupg"
        keys.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", keys, "--batch", "--quiet")
        run(*gpg, "--passphrase", "", "--quick-generate-key", "gpufleet lab", "rsa3072", "sign", "never")
        shown = run(*gpg, "--with-colons", "--fingerprint")
        print_of_key = next(line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr:"))
        write(scratch / "fingerprint", print_of_key)
        drivers = [package for version in DRIVERS for package in _driver(version)]
        for name, packages in (("cuda", [*drivers, _headers(), _dcgm()]), ("toolkit", _toolkit())):
            repository = scratch / name
            repository.mkdir()
            for package in packages:
                _build_package(package, repository, scratch / "tree")
            _index(repository)
            run(*gpg, "--clearsign", "--output", repository / "InRelease", repository / "Release")
            write(repository / "key.asc", run(*gpg, "--armor", "--export"))
        run("gpgconf", "--homedir", keys, "--kill", "all")
        shutil.rmtree(keys)


def _build_package(package: Package, repository: Path, tree: Path) -> None:
    control = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": "amd64",
        "Maintainer": "gpufleet lab <lab@localhost>",
        **({"Depends": package.depends} if package.depends else {}),
        **package.relations,
        "Description": "stand-in of the lab",
    }
    write(tree / "DEBIAN/control", "".join(f"{key}: {value}\n" for key, value in control.items()))
    for name, text in package.scripts.items():
        write(tree / "DEBIAN" / name, text, 0o755)
    for name, content in package.files.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, target)
        elif content.startswith("->"):
            target.symlink_to(content[2:])
        else:
            write(target, content, 0o755 if content.startswith("#!") else 0o644)
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, repository)
    shutil.rmtree(tree)


def _index(repository: Path) -> None:
    entries = []
    for archive in sorted(repository.glob("*.deb")):
        data = archive.read_bytes()
        control = run("dpkg-deb", "--field", archive).strip()
        entries.append(
            f"{control}\nFilename: ./{archive.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
    listed = "\n".join(entries)
    write(repository / "Packages", listed)
    summary = f" {hashlib.sha256(listed.encode()).hexdigest()} {len(listed.encode())} Packages\n"
    write(
        repository / "Release",
        f"Origin: gpufleet lab\nDate: {formatdate(usegmt=True)}\nArchitectures: amd64\nSHA256:\n{summary}",
    )
