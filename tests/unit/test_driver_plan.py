# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which steps bring a host its driver, and what is refused before anything is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils._driver_plan import matches, plan
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._openpgp import fingerprints

A100, H100, B200, T4 = "0x20B010DE", "0x233010DE", "0x290110DE", "0x1EB810DE"
NAMES = ["nvidia-driver-cuda", "nvidia-kernel-open-dkms"]
UNIT = "nvidia-persistenced.service"


def wanted(**other: Any) -> dict[str, Any]:
    return {
        "version": "580",
        "kernel_modules": "open",
        "signed": False,
        "packages": NAMES,
        "headers": ["linux-headers-6.1"],
        "units": [UNIT],
        "files": [["source", "/etc/source", "deb"]],
        **other,
    }


def host(*boards: str, **other: Any) -> dict[str, Any]:
    """A host that has what `wanted` says."""
    return {
        "distribution": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12", "family": "debian"},
        "gpus": [
            {"pci_bus_id": f"0000:0{n}:00.0", "pci_device_id": board} for n, board in enumerate(boards or (A100,))
        ],
        "nvswitches": 0,
        "headers": True,
        "initramfs_stale": False,
        "loaded": {"version": "580.95.05", "kernel_modules": "open"},
        "modules": {"nvidia": 1, "nvidia_drm": 0},
        "display": [],
        "secure_boot": False,
        "signed": False,
        "packages": {name: {"version": "580.95.05-1", "held": True} for name in NAMES},
        "files": {"/etc/source": "deb"},
        "units": {UNIT: {"active": True, "enabled": True}},
        **other,
    }


def packages(version: str, held: bool = True) -> dict[str, Any]:
    return {name: {"version": version, "held": held} for name in NAMES}


def test_a_host_that_has_it_is_left_alone() -> None:
    assert plan(host(), wanted()) == {
        "reason": None,
        "changes": [],
        "packages": NAMES,
        "reboot": False,
        "loaded": {"version": "580.95.05", "kernel_modules": "open"},
        "wanted": {"version": "580", "kernel_modules": "open"},
        "replaces": False,
        "waits": False,
        "stops": None,
    }


OLDER = {"packages": packages("570.172.08-1"), "loaded": {"version": "570.172.08", "kernel_modules": "open"}}
BARE: dict[str, Any] = {"packages": {}, "loaded": None, "modules": {}}


@pytest.mark.parametrize(
    ("there", "asked", "replaces", "waits"),
    [
        (OLDER, {}, True, True),
        (OLDER, {"drained": True}, True, False),
        (OLDER, {"minimum_only": True}, False, False),
        ({"packages": {}}, {}, True, True),  # packages alone: which version comes is not known
        ({"packages": packages("580.95.05-1", held=False)}, {}, False, False),
        (BARE, {}, False, False),
        ({**BARE, "modules": {"nouveau": 0}}, {}, False, False),
        ({**OLDER, "gpus": []}, {}, False, False),
    ],
)
def test_a_loaded_driver_is_replaced_in_the_turn_of_its_node(
    there: dict[str, Any], asked: dict[str, Any], replaces: bool, waits: bool
) -> None:
    found = plan(host(**there), wanted(**asked))
    assert (found["replaces"], found["waits"]) == (replaces, waits)


def test_a_reboot_that_is_not_allowed_stops_only_what_needs_one() -> None:
    said = plan(host(**OLDER), wanted(reboots=False))["stops"]
    assert said.startswith("driver 580 needs a reboot (loaded now: nvidia, nvidia_drm) and driver_reboot is never")
    assert plan(host(), wanted(reboots=False))["stops"] is None
    assert plan(host(**BARE), wanted(reboots=False))["stops"] is None


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        (
            {"packages": {}, "files": {}, "headers": False, "loaded": None, "modules": {"nouveau": 0}, "units": {}},
            ["source", "headers", "packages", "units", "reboot"],
        ),
        ({"packages": {}, "loaded": None, "modules": {}, "units": {}}, ["packages", "units", "load"]),
        ({"packages": packages("580.95.05-1", held=False)}, ["hold"]),
        ({"initramfs_stale": True}, ["initramfs"]),
        ({"units": {UNIT: {"active": False, "enabled": True}}}, ["units"]),
        # Installed but not loaded yet: somebody has upgraded by hand, or an earlier run stopped before the reboot.
        ({"packages": packages("580.126.20-1")}, ["reboot"]),
        ({"packages": packages("570.172.08-1"), "loaded": {"version": "570.172.08", "kernel_modules": "open"}},
         ["packages", "units", "reboot"]),
        ({"loaded": {"version": "580.95.05", "kernel_modules": "proprietary"}}, ["reboot"]),
    ],
)  # fmt: skip
def test_only_the_steps_that_are_needed(state: dict[str, Any], steps: list[str]) -> None:
    found = plan(host(**state), wanted())
    assert found["changes"] == steps
    assert found["reboot"] == ("reboot" in steps)


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (host(H100, A100), wanted(version="515"), "515 has no MIG for NVIDIA H100 80GB HBM3, which needs 525.85.12"),
        (host(H100), wanted(version="525.60.13"), "needs 525.85.12"),
        (host(B200), wanted(kernel_modules="proprietary"), "set driver_kernel_modules to open"),
        (host(A100), wanted(version="620", kernel_modules="proprietary"), "set driver_kernel_modules to open"),
        (host(gpus=[]), wanted(), "no NVIDIA GPU"),
        (host(secure_boot=True), wanted(), "mokutil --import"),
        (host(distribution={"name": "Plan 9", "family": None}), wanted(), "this is Plan 9"),
        (host(loaded=None), wanted(minimum_only=True), "set driver_manage to true"),
        (host(H100, loaded={"version": "520.61.05", "kernel_modules": "open"}), wanted(minimum_only=True), "525.85.12"),
        (
            host(modules={"nvidia_drm": 3}, display=["Xorg"]),
            wanted(version="570"),
            "a display runs on its GPUs (Xorg)",
        ),
    ],
)  # fmt: skip
def test_refused_with_the_remedy(there: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    found = plan(there, asked)
    assert words in found["reason"]
    assert found["changes"] == []
    assert not found["reboot"]


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (host(H100), wanted(version="525")),
        (host(T4), wanted()),
        (host(secure_boot=True, signed=True), wanted()),
        (host(secure_boot=True), wanted(signed=True)),
        (host(modules={"nvidia": 1, "nvidia_drm": 3}, display=["Xorg"]), wanted()),
        (host(distribution={"name": "Plan 9", "family": None}), wanted(minimum_only=True)),
    ],
)
def test_not_refused(there: dict[str, Any], asked: dict[str, Any]) -> None:
    assert plan(there, asked)["reason"] is None


def test_a_branch_is_not_a_prefix() -> None:
    assert matches("580.95.05-1", "580")
    assert matches("580.95.05-1", "580.95.05")
    assert not matches("5801.2-1", "580")
    assert not matches("580.95.051-1", "580.95.05")


@pytest.mark.parametrize("armor", [True, False])
def test_fingerprint_is_the_one_that_gpg_shows(tmp_path: Path, armor: bool) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    made = [*gpg, "--passphrase", "", "--quick-generate-key", "someone", "ed25519", "sign", "never"]
    subprocess.run(made, check=True, capture_output=True)
    shown = subprocess.run([*gpg, "--with-colons", "--fingerprint"], check=True, capture_output=True, text=True).stdout
    key = subprocess.run([*gpg, *(["--armor"] if armor else []), "--export"], check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    assert fingerprints(key) == [line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr:")]


def test_what_is_no_key_is_refused() -> None:
    for data in (b"", b"<html>not found</html>", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%%\n-----END"):
        with pytest.raises(MigError):
            fingerprints(data)
