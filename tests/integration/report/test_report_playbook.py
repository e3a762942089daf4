# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.report on a simulated fleet, with and without Kubernetes, and pod_devices_info on one of its hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.modules.simulated_host import NOBODY
from integration.report.conftest import Fleet
from unit.kube_server import Api, node

from ansible_collections.gpufleet.mig.plugins.module_utils._checkpoint import checksum

A100, H100 = "a100-sxm4-40gb", "h100-sxm5-80gb"
pytestmark = pytest.mark.slow

TRAIN, ENDED = "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0001", "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0002"
KEY = "nvidia.com/mig-1g.10gb"


@pytest.fixture
def api(folder: Path) -> Iterator[Api]:
    server = Api(folder)
    yield server
    server.shutdown()
    server.server_close()


def kubelet(folder: Path, *given: tuple[str, str, str]) -> Path:
    """A kubelet's folder with a checkpoint of (pod UID, resource, device), in the form of kubelet 1.36."""
    data: dict[str, Any] = {
        "PodDeviceEntries": [
            {
                "PodUID": uid,
                "ContainerName": "main",
                "ResourceName": resource,
                "DeviceIDs": {"0": [device]},
                "AllocResp": "Ch4KFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSBHZvaWQ=",
            }
            for uid, resource, device in given
        ],
        "RegisteredDevices": {},
    }
    plugins = folder / "kubelet" / "device-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"Data": data, "Checksum": checksum(data)})
    (plugins / "kubelet_internal_checkpoint").write_text(text)
    plugins.chmod(0o750)  # as the kubelet has it
    return folder / "kubelet"


def user_pod(uid: str, name: str, on: str, resource: str, **status: Any) -> dict[str, Any]:
    amounts = {resource: "1"}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ml", "uid": uid},
        "spec": {"nodeName": on, "containers": [{"name": "main", "resources": {"limits": amounts}}]},
        "status": {"phase": "Running", **status},
    }


def partitioned(folder: Path, **variables: Any) -> Fleet:
    fleet = Fleet(folder, {"gpu-01": [H100, H100], "gpu-02": [A100]}, **variables)
    layout = [{"gpus": 0, "instances": [{"profile": "1g.10gb", "start": n} for n in (0, 1)] + [{"profile": "3g.40gb"}]}]
    fleet.hosts["gpu-01"].run("mig_layout", layout=layout)
    fleet.hosts["gpu-01"].forget_calls()
    return fleet


def test_the_whole_fleet_with_kubernetes(folder: Path, api: Api) -> None:
    fleet = partitioned(folder)
    uuids = fleet.hosts["gpu-01"].uuids()
    gi_id = fleet.hosts["gpu-01"].gpus()[0]["instances"][1]["gi_id"]
    fleet.hosts["gpu-01"].simctl("busy", 0, "--gi", gi_id, "--pid", 1, "--name", "stray")  # process 1 is in no pod
    given = [(TRAIN, KEY, uuids[0, 0]), (ENDED, "nvidia.com/mig-3g.40gb", uuids[0, 4])]
    fleet.variables = {
        "mig_kubernetes": True,
        "mig_kubeconfig": api.kubeconfig(),
        "mig_kubelet_dir": str(kubelet(folder, *given)),
        "mig_layout": [{"gpus": 0, "instances": {"3g.40gb": 1}}],
    }
    fleet.write()
    api.put(node("gpu-01", {KEY: 2, "nvidia.com/mig-3g.40gb": 1, "nvidia.com/gpu": 1}))
    api.put(node("gpu-02", {"nvidia.com/gpu": 1}, unschedulable=True))
    api.put(user_pod(TRAIN, "train", "gpu-01", KEY))
    api.put(user_pod(ENDED, "ended", "gpu-01", "nvidia.com/mig-3g.40gb", phase="Succeeded"))

    said = fleet.play("report", mig_report_output=str(folder / "out"))
    found = json.loads((folder / "out" / "report.json").read_text())
    text = (folder / "out" / "report.md").read_text()

    first, second = found["hosts"]
    instances = {one["start"]: one for one in first["gpus"][0]["instances"]}
    assert instances[0]["compute_instances"][0]["pods"] == ["ml/train"]
    assert instances[1]["compute_instances"][0]["processes"] == [
        {"pid": 1, "name": "stray", "where": "host", "pod": None}
    ]
    assert {start: one["use"] for start, one in instances.items()} == {0: "held", 1: "held", 4: "free"}
    assert [one["kind"] for one in first["disagreements"]] == ["stale", "host_process"]
    assert first["gpus"][0]["slices"] == {"total": 8, "free": 2}
    assert first["allocatable"][KEY] == 2
    assert (first["drift"]["state"], second["schedulable"]) == ("drift", False)
    assert second["drift"]["state"] == "invalid"  # an A100 of 40 GB has no such profile
    assert found["totals"]["resources"] == {"nvidia.com/gpu": 2, KEY: 2, "nvidia.com/mig-3g.40gb": 1}
    assert found["totals"]["instances"]["1g.10gb"] == {"total": 2, "free": 0, "held": 2, "unknown": 0}
    assert found["totals"]["drifted"] == ["gpu-01", "gpu-02"]

    assert "| 0   | 0     | 1g.10gb   | ml/train" in text
    assert "process 1 (stray) uses 1g.10gb at 1 of GPU 0 and runs in no pod" in text
    assert "cordoned" in text
    assert "ml/train" in said
    assert not api.writes()
    assert fleet.hosts["gpu-01"].writes() == []


@pytest.mark.full
def test_without_a_kubeconfig_nothing_that_may_be_held_is_called_free(folder: Path) -> None:
    fleet = partitioned(folder)
    uuids = fleet.hosts["gpu-01"].uuids()
    fleet.variables = {"mig_kubelet_dir": str(kubelet(folder, (TRAIN, KEY, uuids[0, 0])))}
    fleet.write()
    fleet.play("report", mig_report_output=str(folder / "out"))
    host = json.loads((folder / "out" / "report.json").read_text())["hosts"][0]
    assert [one["use"] for one in host["gpus"][0]["instances"]] == ["held", "unknown", "unknown"]
    assert host["gpus"][0]["instances"][0]["compute_instances"][0]["pods"] == [TRAIN]
    assert (host["drift"]["state"], host["allocatable"]) == ("unmanaged", None)


@pytest.mark.full
def test_hosts_in_no_cluster_and_one_that_cannot_be_read(folder: Path) -> None:
    fleet = partitioned(folder, mig_kubelet_dir=str(folder / "none"))
    fleet.hosts["gpu-02"].simctl("driver", "unload")
    said = fleet.play("report", ok=False, mig_report_output=str(folder / "out"))
    found = json.loads((folder / "out" / "report.json").read_text())
    assert found["totals"]["unread"] == ["gpu-02"]
    assert "driver" in found["hosts"][1]["error"]
    assert {one["use"] for one in found["hosts"][0]["gpus"][0]["instances"]} == {"free"}
    assert "in no cluster" in said


# pod_devices_info


def devices(fleet: Fleet, *, user: int = 0, **options: Any) -> dict[str, Any]:
    return fleet.hosts["gpu-01"].run("pod_devices_info", user=user, **options)


@pytest.mark.full
def test_pod_devices_info_reads_the_gpus_itself(folder: Path) -> None:
    fleet = partitioned(folder)
    fleet.hosts["gpu-01"].simctl("busy", 1, "--pid", 1)
    where = str(kubelet(folder, (TRAIN, KEY, "MIG-x")))
    answer = devices(fleet, kubelet_dir=where)
    assert answer["changed"] is False
    assert answer["checkpoint"]["state"] == "read"
    assert answer["checkpoint"]["entries"] == [
        {"pod_uid": TRAIN, "container": "main", "resource": KEY, "devices": ["MIG-x"]}
    ]
    assert [(one["pid"], one["where"]) for one in answer["processes"]] == [(1, "host")]
    assert devices(fleet, kubelet_dir=where, gpus=[])["processes"] == []
    assert devices(fleet, kubelet_dir=where, gpus=[{"processes": [{}]}])["failed"]


@pytest.mark.full
def test_pod_devices_info_says_what_it_does_not_know(folder: Path) -> None:
    fleet = partitioned(folder)
    missing = devices(fleet, kubelet_dir=str(folder), gpus=[])["checkpoint"]
    assert (missing["state"], missing["entries"]) == ("missing", None)
    assert str(folder) in missing["error"]
    where = kubelet(folder)
    file = where / "device-plugins" / "kubelet_internal_checkpoint"
    folder.chmod(0o755)
    denied = devices(fleet, user=NOBODY, kubelet_dir=str(where), gpus=[])["checkpoint"]
    assert (denied["state"], denied["entries"]) == ("unreadable", None)
    assert "only root may read" in denied["error"]
    file.write_text(file.read_text().replace('"Checksum": ', '"Checksum": 1'))
    assert devices(fleet, kubelet_dir=str(where), gpus=[])["checkpoint"]["state"] == "corrupt"
    assert devices(fleet, kubelet_dir=str(where), gpus=[], verify_checksum=False)["checkpoint"]["state"] == "read"
