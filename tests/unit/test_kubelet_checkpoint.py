# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints that kubelet 1.36.3's own code wrote (checkpoints/main.go), damaged ones, and cgroups of all forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils import _pod_devices
from ansible_collections.gpufleet.mig.plugins.module_utils._checkpoint import CheckpointError, parse

FOLDER = Path(__file__).parent / "checkpoints"
A, B = "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0001", "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0002"
CONTAINER = "4f" * 32


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_the_kubelets_own_checksum_is_right(path: Path) -> None:
    parse(path.read_text("utf-8"), verify=True)


def test_what_the_kubelet_wrote() -> None:
    found = parse((FOLDER / "mixed.json").read_text("utf-8"))
    assert found["entries"][0] == {
        "pod_uid": A,
        "container": "train",
        "resource": "nvidia.com/mig-1g.5gb",
        "devices": ["MIG-11111111-0000-5000-8000-000000000001"],
    }
    assert found["entries"][2]["devices"] == ["0000:3b:02.1", "0000:d8:02.1"]  # of two NUMA nodes
    assert found["registered"]["example.com/nic"] == []
    shared = parse((FOLDER / "shared.json").read_text("utf-8"))["entries"][0]
    assert shared["devices"] == ["GPU-22222222-0000-5000-8000-000000000001::3"]
    assert parse((FOLDER / "empty.json").read_text("utf-8")) == {"entries": [], "registered": {}}


def damage(change: Callable[[dict[str, Any]], Any]) -> str:
    whole: dict[str, Any] = json.loads((FOLDER / "mixed.json").read_text("utf-8"))
    change(whole)
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON"),
        ((FOLDER / "mixed.json").read_text("utf-8")[:300], "not JSON"),
        ("[]", "should have Checksum, Data"),
        (damage(lambda whole: whole["Data"].pop("RegisteredDevices")), "should have PodDeviceEntries"),
        (damage(lambda whole: whole["Data"].update(Version=3)), "and has PodDeviceEntries, RegisteredDevices, Version"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"][0].update(PodUID="")), "entry 1 has no PodUID"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"][0].update(DeviceIDs=["MIG-1"])), "another type"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"][1].update(DeviceIDs={"x": []})), "is no number"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"][1].update(DeviceIDs={"0": [7]})), "no device id"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"].pop()), "its checksum is 1257918843"),
        (damage(lambda whole: whole["Data"]["PodDeviceEntries"][0].update(AllocResp="%")), "not base64"),
        (damage(lambda whole: whole.update(Checksum=1)), "its content gives 1257918843"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        parse(text)


def test_the_checksum_can_be_left_aside_but_not_the_form() -> None:
    assert len(parse(damage(lambda whole: whole.update(Checksum=1)), verify=False)["entries"]) == 3
    with pytest.raises(CheckpointError):
        parse("{}", verify=False)


UID = B.replace("-", "_")


@pytest.mark.parametrize(
    ("line", "pod", "container"),
    [
        (f"11:devices:/kubepods/burstable/pod{B}/{CONTAINER}", B, CONTAINER),
        (f"4:memory:/kubepods/pod{B}/{CONTAINER}", B, CONTAINER),
        (f"0::/kubepods/besteffort/pod{B}/{CONTAINER}", B, CONTAINER),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice/"
            f"cri-containerd-{CONTAINER}.scope",
            B,
            CONTAINER,
        ),
        (f"0::/kubepods.slice/kubepods-pod{UID}.slice/crio-{CONTAINER}.scope", B, CONTAINER),
        (
            f"9:pids:/system.slice/containerd.service/kubepods-besteffort-pod{UID}.slice:cri-containerd:{CONTAINER}",
            B,
            CONTAINER,
        ),
        (
            f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice/cri-containerd-{CONTAINER}.scope",
            B,
            CONTAINER,
        ),
        (f"0::/kubepods/burstable/pod{'5f' * 16}/{CONTAINER}", "5f" * 16, CONTAINER),  # a static pod
        (f"0::/kubepods.slice/kubepods-pod{UID}.slice/cri-containerd-{CONTAINER}.scope/init", B, None),
        ("0::/user.slice/user-0.slice/session-1.scope", None, None),
        ("0::/system.slice/slurmstepd.scope/job_42/step_0", None, None),
        (f"0::/machine.slice/libpod-{CONTAINER}.scope", None, None),
        (f"0::/kubepods.slice/kubepods-burstable-podcafe{UID}.slice", None, None),
    ],
)
def test_the_pod_of_a_cgroup(line: str, pod: str | None, container: str | None) -> None:
    assert _pod_devices.pod_of_cgroup(f"12:cpuset:/\n{line}\n") == (pod, container)


def test_processes_that_are_gone_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/kubepods/pod{A}/{CONTAINER}\n")
    assert _pod_devices.owners([8, 7, 7], tmp_path) == [
        {"pid": 7, "where": "pod", "pod_uid": A, "container_id": CONTAINER},
        {"pid": 8, "where": "unknown", "pod_uid": None, "container_id": None},
    ]


def test_several_checkpoints_are_ambiguous_and_links_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (FOLDER / "mixed.json").read_text("utf-8")
    for name in ("one", "two"):
        (tmp_path / name / "device-plugins").mkdir(parents=True)
    (tmp_path / "one" / _pod_devices.CHECKPOINT).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    monkeypatch.setattr(_pod_devices, "KUBELET_FOLDERS", [str(tmp_path / name) for name in ("one", "link", "two")])
    found = _pod_devices.read_checkpoint(None)
    assert (found["state"], found["path"]) == ("read", str(tmp_path / "one" / _pod_devices.CHECKPOINT))
    (tmp_path / "two" / _pod_devices.CHECKPOINT).write_text(text)
    assert _pod_devices.read_checkpoint(None)["state"] == "ambiguous"
    assert _pod_devices.read_checkpoint(str(tmp_path / "two"))["state"] == "read"
    assert _pod_devices.read_checkpoint(str(tmp_path))["state"] == "missing"
    (tmp_path / "two" / _pod_devices.CHECKPOINT).write_bytes(b"\xff\xfe")
    assert _pod_devices.read_checkpoint(str(tmp_path / "two"))["state"] == "unreadable"
