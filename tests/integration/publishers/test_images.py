# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The images: what is in them, that their digests hold, and that the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.gpufleet_lab.settings import IMAGES_SOURCE
from lab.gpufleet_lab.toolchain import ensure_packages

pytestmark = pytest.mark.slow

PUBLISHERS = ("nvidia-device-plugin", "gpu-feature-discovery", "config-manager")


@dataclass(frozen=True)
class Unpacked:
    """One image as a runtime would take it apart."""

    name: str
    config: dict[str, Any]
    entries: dict[str, tarfile.TarInfo]


def unpack(archive: Path) -> Unpacked:
    with tarfile.open(archive) as outer:
        blobs = {each.name: outer.extractfile(each).read() for each in outer if each.isfile()}  # type: ignore[union-attr]

    def blob(descriptor: dict[str, Any]) -> bytes:
        content = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert descriptor["size"] == len(content)
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
        return content

    (described,) = json.loads(blobs["index.json"])["manifests"]
    manifest = json.loads(blob(described))
    (layer,) = manifest["layers"]
    config = json.loads(blob(manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(layer))) as inner:
        entries = {each.name: each for each in inner}
    return Unpacked(described["annotations"]["io.containerd.image.name"], config, entries)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small programs in place of the publishers and the simulator."""
    ensure_packages()
    folder = tmp_path_factory.mktemp("inputs")
    source = folder / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    for name in (*PUBLISHERS, "gpu-holder", "nvidia-smi"):
        subprocess.run(["cc", "-o", str(folder / name), str(source)], check=True)
    for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / name), str(source)], check=True)
    return folder


def build(inputs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(IMAGES_SOURCE / "build.py"), "--out", str(out)]
    command += ["--publishers", str(inputs), "--simulator", str(inputs)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def images(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images")
    done = build(inputs, out)
    assert done.returncode == 0, done.stderr
    return out


def test_pause_is_one_static_program(images: Path) -> None:
    image = unpack(images / "pause.tar")
    assert image.name == "registry.k8s.io/pause:3.10"
    assert list(image.entries) == ["pause"]
    assert image.config["config"]["Cmd"] == ["/pause"]


def test_device_plugin_image_has_the_publishers_and_no_driver(images: Path) -> None:
    image = unpack(images / "device-plugin.tar")
    assert image.name == "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
    for program in PUBLISHERS:
        assert image.entries[f"usr/bin/{program}"].mode == 0o755
    assert "NVIDIA_VISIBLE_DEVICES=all" in image.config["config"]["Env"]
    names = {Path(path).name for path in image.entries}
    assert not names & {"libnvidia-ml.so.1", "libcuda.so.1", "nvidia-smi"}
    assert any(name.startswith("ld-linux") for name in names)


def test_workload_image_shows_whether_cdi_injected(images: Path) -> None:
    image = unpack(images / "workload.tar")
    assert image.name == "gpufleet.io/lab/workload:1"
    assert {"usr/bin/gpu-holder", "usr/bin/busybox", "usr/bin/sh", "usr/bin/sleep"} <= image.entries.keys()
    assert "usr/bin/nvidia-smi" not in image.entries
    assert image.entries["tmp"].mode == 0o1777


def test_every_entry_is_root_s_and_has_no_time(images: Path) -> None:
    for archive in images.glob("*.tar"):
        assert {(each.uid, each.gid, each.mtime) for each in unpack(archive).entries.values()} == {(0, 0, 0)}


def test_the_same_input_gives_the_same_bytes(inputs: Path, images: Path, tmp_path: Path) -> None:
    assert build(inputs, tmp_path).returncode == 0
    for name in ("pause.tar", "device-plugin.tar", "workload.tar"):
        assert (tmp_path / name).read_bytes() == (images / name).read_bytes()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert f"{tmp_path}/nvidia-device-plugin is not there" in done.stderr
