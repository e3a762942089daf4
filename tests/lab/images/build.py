#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Make the lab's images as OCI archives for `ctr images import`. Standard library only; same input, same digests.

    build.py --out DIR --publishers DIR_WITH_GO_BINARIES --simulator SIMULATOR_BUILD_DIR

writes DIR/{pause,device-plugin,workload}.tar. Needs cc (pause is a small static C program) and Debian's busybox-static.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

HERE = Path(__file__).resolve().parent
PAUSE = "registry.k8s.io/pause:3.10"
DEVICE_PLUGIN = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
WORKLOAD = "gpufleet.io/lab/workload:1"
PUBLISHERS = ("nvidia-device-plugin", "gpu-feature-discovery", "config-manager")
# What CDI puts into containers. Not part of an image, but the image must hold what they are linked with.
INJECTED = ("libnvidia-ml.so.1", "libcuda.so.1", "nvidia-smi")

_MEDIA = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"


class BuildError(Exception):
    """Something the user can act on."""


class Tree:
    """Files, folders and links by path without a leading slash; parents come by themselves. Owner is root."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder; the mode of one that exists already stays."""
        self._add(path, tarfile.DIRTYPE, mode)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file; the same one may be given several times."""
        self._add(path, tarfile.REGTYPE, mode, content)

    def _add(self, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
        if path in self._entries:
            known, present = self._entries[path]
            if (known.type, known.linkname, present) != (kind, target, content):
                raise ValueError(f"two different things for /{path} of an image")
            return
        parent = str(PurePosixPath(path).parent)
        if parent != ".":
            self.folder(parent)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
        entry.uname = entry.gname = "root"
        self._entries[path] = (entry, content)

    def layer(self) -> bytes:
        """The tree as a tar, sorted, without times."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path in sorted(self._entries):
                entry, content = self._entries[path]
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


@dataclass(frozen=True)
class Image:
    """What an image is called, holds and runs."""

    reference: str
    tree: Tree
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    user: str = ""


def write_archive(image: Image, path: Path) -> str:
    """Write an OCI layout archive; returns the digest of the image's manifest."""
    blobs: dict[str, bytes] = {}

    def store(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = store("layer.v1.tar", image.tree.layer())
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **image.variables}
    run: dict[str, Any] = {"Env": [f"{name}={value}" for name, value in variables.items()], "Cmd": image.command}
    if image.user:
        run["User"] = image.user
    config = store(
        "config.v1+json",
        _json(
            {
                "created": _EPOCH,
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": run,
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
                "history": [{"created": _EPOCH, "created_by": "gpufleet.mig lab"}],
            }
        ),
    )
    manifest_type = f"{_MEDIA}.manifest.v1+json"
    manifest = store(
        "manifest.v1+json", _json({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]})
    )
    names = {
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.index.v1+json",
        "manifests": [{**manifest, "annotations": names}],
    }
    files = Tree()
    files.file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    files.file("index.json", _json(index))
    for digest, content in blobs.items():
        files.file(f"blobs/sha256/{digest}", content)
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(files.layer())
    scratch.replace(path)
    return str(manifest["digest"])


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


@dataclass(frozen=True)
class Inputs:
    """Where the binaries come from."""

    publishers: Path
    simulator: Path
    busybox: Path
    compiler: str


def base_tree() -> Tree:
    """An empty root with merged /usr, as Debian and CDI's paths expect it."""
    tree = Tree()
    for folder in (
        "dev",
        "etc/ld.so.conf.d",
        "proc",
        "root",
        "run",
        "sys",
        "usr/bin",
        "usr/lib",
        "usr/sbin",
        "var/run",
    ):
        tree.folder(folder)
    tree.folder("tmp", 0o1777)
    for name in ("bin", "lib", "sbin"):
        tree.link(name, f"usr/{name}")
    tree.folder("usr/lib64")
    tree.link("lib64", "usr/lib64")
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    tree.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    tree.file("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    return tree


def libraries(program: Path) -> list[Path]:
    """The loader and the libraries that a program is linked with, as the loader of this machine finds them.

    ldd ends with 1 for a static program, which has none.
    """
    result = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    found = re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", result.stdout, re.MULTILINE)
    missing = re.findall(r"^\s+(\S+) => not found$", result.stdout, re.MULTILINE)
    wanted = [name for name in missing if name not in INJECTED]
    if wanted:
        raise BuildError(f"{program} needs {', '.join(wanted)}, which this machine does not have.")
    return [Path(path) for path in found if Path(path).name not in INJECTED]


def add_libraries(tree: Tree, program: Path) -> None:
    """Put what a program is linked with where the loader of the image looks for it."""
    for library in libraries(program):
        place = str(library).lstrip("/")
        if not place.startswith("usr/"):
            place = f"usr/{place}"
        tree.file(place, library.read_bytes(), 0o755)


def add_program(tree: Tree, source: Path, place: str) -> None:
    """Put a program with its libraries into a tree."""
    if not source.is_file():
        raise BuildError(f"{source} is not there; build it first.")
    tree.file(place, source.read_bytes(), 0o755)
    add_libraries(tree, source)


def pause_image(inputs: Inputs) -> Image:
    """The sandbox: one static program."""
    tree = Tree()
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "pause"
        command = [
            inputs.compiler,
            "-Os",
            "-s",
            "-static",
            "-Wall",
            "-Werror",
            "-o",
            str(binary),
            str(HERE / "pause.c"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BuildError(f"cannot compile pause.c: {result.stderr.strip()}")
        tree.file("pause", binary.read_bytes(), 0o755)
    return Image(PAUSE, tree, command=["/pause"], user="65535:65535")


def device_plugin_image(inputs: Inputs) -> Image:
    """The three publishers. The library comes from the driver root or by CDI, never from the image."""
    tree = base_tree()
    for name in PUBLISHERS:
        add_program(tree, inputs.publishers / name, f"usr/bin/{name}")
    for name in INJECTED:
        add_libraries(tree, inputs.simulator / name)
    variables = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all"}
    return Image(DEVICE_PLUGIN, tree, command=["nvidia-device-plugin"], variables=variables)


def workload_image(inputs: Inputs) -> Image:
    """A shell and gpu-holder. nvidia-smi is left out on purpose: where it is missing, CDI injected nothing."""
    tree = base_tree()
    add_program(tree, inputs.busybox, "usr/bin/busybox")
    listed = subprocess.run([str(inputs.busybox), "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in listed:
        if applet != "busybox":
            tree.link(f"usr/bin/{applet}", "busybox")
    add_program(tree, inputs.simulator / "gpu-holder", "usr/bin/gpu-holder")
    for name in INJECTED:
        add_libraries(tree, inputs.simulator / name)
    return Image(WORKLOAD, tree, command=["/bin/sh"])


def build(out: Path, inputs: Inputs) -> None:
    """Write the three archives."""
    out.mkdir(parents=True, exist_ok=True)
    makers = {"pause": pause_image, "device-plugin": device_plugin_image, "workload": workload_image}
    for name, make in makers.items():
        image = make(inputs)
        digest = write_archive(image, out / f"{name}.tar")
        print(f"{name}.tar  {image.reference}  {digest}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--publishers", type=Path, required=True, help="folder with the three Go binaries")
    parser.add_argument("--simulator", type=Path, required=True, help="build folder of tests/simulator")
    parser.add_argument("--busybox", type=Path, default=Path("/bin/busybox"))
    parser.add_argument("--cc", default="cc")
    arguments = parser.parse_args()
    inputs = Inputs(arguments.publishers, arguments.simulator, arguments.busybox, arguments.cc)
    try:
        build(arguments.out, inputs)
    except (BuildError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
