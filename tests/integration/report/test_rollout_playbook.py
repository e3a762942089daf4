# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.rollout and rollback as a person follows them: progress, report, what the nodes keep, drift."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.report.conftest import Fleet
from integration.report.publishers import Publishers
from integration.report.test_report_playbook import KEY, TRAIN, kubelet, user_pod
from unit.kube_server import GFD, PLUGIN, Api, node, pod

pytestmark = pytest.mark.slow

SEVEN = [{"gpus": 0, "instances": {"1g.10gb": 7}}]
TWO = [{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 0}, {"profile": "3g.40gb", "start": 4}]}]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/gpufleet-rollout"
OFFERS = {"1g.10gb": {"nvidia.com/mig-1g.10gb": 7}, "3g.40gb": {"nvidia.com/mig-3g.40gb": 2}}


class Cluster:
    """Nodes whose device plugin offers, when it starts anew, what the simulated host has."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.api = Api(folder)
        self.api.replace_after = 0.05
        self.fleet = Fleet(
            folder,
            {name: [{"product": "h100-sxm5-80gb", "mig": "enabled"}] for name in names},
            mig_kubernetes=True,
            mig_kubeconfig=self.api.kubeconfig(),
            mig_kubelet_dir=str(kubelet(folder)),
            mig_install_plugin=False,
            mig_gpu_feature_discovery=False,
            mig_publish_timeout=60,
            mig_waves=[1, "100%"],
        )
        for name in names:
            self.fleet.hosts[name].run("mig_layout", layout=SEVEN)
            self.api.put(node(name, OFFERS["1g.10gb"], {"nvidia.com/device-plugin.config": "mixed"}))
            self.api.put(pod(PLUGIN, name), pod(GFD, name))
        self._publishers = Publishers(self.api, self._profiles)

    def _profiles(self, name: str) -> list[str]:
        return [one["profile"] for one in self.fleet.hosts[name].gpus()[0]["instances"]]

    def node(self, name: str) -> dict[str, Any]:
        return self.api.objects[f"/api/v1/nodes/{name}"]

    def kept(self, name: str, key: str) -> Any:
        return json.loads(self.node(name)["metadata"]["annotations"][f"gpufleet.io/{key}"])

    def holder(self) -> str | None:
        """Who holds the roll-out lock, which exists since the first run."""
        found: str | None = self.api.objects[LEASE]["spec"].get("holderIdentity")
        return found

    def want(self, layout: Any) -> None:
        self.fleet.variables["mig_layout"] = layout
        self.fleet.write()

    def close(self) -> None:
        self._publishers.stop()
        self.api.shutdown()
        self.api.server_close()


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder, ["gpu-01", "gpu-02"])
    yield made
    made.close()


@pytest.fixture
def alone(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder, ["gpu-02"])
    yield made
    made.close()


def test_progress_and_report_of_a_run_that_ansible_playbook_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phases alone, with no host behind them: the action contacts none."""
    step = {"run": "r1", "output": str(folder / "out"), "record": "{{ noted.record }}"}
    order = {"run": "r1", "order": {"hosts": "{{ ansible_play_hosts }}", "waves": [1, "100%"]}}
    steps = [order, *({**step, "phase": phase, "evicting": ["shop/a"]} for phase in ("evicting", "changing", "done"))]
    tasks: list[dict[str, Any]] = [{"gpufleet.mig.rollout_report": each, "register": "noted"} for each in steps]
    tasks.append({"gpufleet.mig.rollout_report": {**step, "phase": "failed"}, "no_log": True})
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]))
    log = folder / "progress.jsonl"
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "gpufleet.mig.rollout_progress")
    monkeypatch.setenv("GPUFLEET_ROLLOUT_PROGRESS_PATH", str(log))
    fleet = Fleet(folder, {})
    source = ",".join(f"gpu-{number:02}" for number in range(1, 13))
    said = fleet.play(str(folder / "play.yml"), inventory=source)

    assert re.search(r"^\[wave 1/2\] node 1/12 gpu-01 evicting 1 pod \(\d+ s elapsed\)$", said, re.MULTILINE)
    assert re.search(r"^\[wave 2/2\] node 2/12 gpu-02 done after .*elapsed, about .* left\)$", said, re.MULTILINE)
    assert said.count("[wave") == 3 * 12
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 4 * 12, "and nothing of the task with no_log"
    report = json.loads((folder / "out" / "rollout.json").read_text())
    assert [record["host"] for record in report["nodes"]] == source.split(","), "those that wrote at the same time too"
    assert [one["phase"] for one in report["nodes"][11]["phases"]][1:-1] == ["evicting", "changing", "done"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder / "out", *sorted((folder / "out").iterdir()))]
    assert modes == [0o700, 0o600, 0o600]


def test_a_roll_out_is_followed_reported_and_rolled_back(
    alone: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, out = folder / "progress.jsonl", folder / "out"
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "gpufleet.mig.rollout_progress")
    monkeypatch.setenv("GPUFLEET_ROLLOUT_PROGRESS_PATH", str(log))
    # a run before made 2 x 3g, and somebody cut it into 7 x 1g since
    made = json.dumps({"layout": TWO, "strategy": "mixed", "run": "r0", "time": "2026-01-01T00:00:00Z"})
    alone.node("gpu-02")["metadata"]["annotations"] = {"gpufleet.io/layout": made}
    alone.want(TWO)

    said = " ".join(alone.fleet.play("rollout", mig_rollout_output=str(out)).split())

    drift = "gpu-02 is not as run r0 left it, and this run changes it: GPU 0: made by us 2 x 3g.40gb, now 7 x 1g.10gb"
    assert drift in said
    assert said.index(drift) < said.index("[wave 1/1] node 1/1 gpu-02 its instances are changed")
    assert re.search(r"- gpu-02 done .* 0 ", said)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["phase"] for line in lines if "number" in line] == [
        "waiting", "looking", "evicting", "changing", "publishing", "done",
    ]  # fmt: skip
    assert {"gates", "taken", "partitioned", "publishers", "shown"} <= {line["phase"] for line in lines}
    assert {line["wave"] for line in lines if line["phase"] == "taken"} == {1}

    report = json.loads((out / "rollout.json").read_text())
    assert (report["outcome"], report["failed"]) == ("done", [])
    (record,) = report["nodes"]
    assert record["allocatable"] == {"before": OFFERS["1g.10gb"], "after": OFFERS["3g.40gb"]}
    assert record["layout"]["after"] == TWO
    assert record["drift"] == ["GPU 0: made by us 2 x 3g.40gb, now 7 x 1g.10gb"]
    assert "| `nvidia.com/mig-1g.10gb` | 7 | 0 |" in (out / "rollout.md").read_text()

    assert alone.kept("gpu-02", "layout")["layout"] == TWO
    assert alone.kept("gpu-02", "previous")["strategy"] == "mixed"
    said = " ".join(alone.fleet.play("rollback", "--limit", "gpu-02").split())
    assert [one["profile"] for one in alone.fleet.hosts["gpu-02"].gpus()[0]["instances"]] == ["1g.10gb"] * 7
    assert alone.kept("gpu-02", "previous")["layout"] == TWO
    assert f"gpu-02 stands as before run {report['run']}, but the inventory says something else" in said
    assert "is not as run" not in said


@pytest.mark.full
def test_a_node_that_fails_is_in_the_report_with_the_next_command(cluster: Cluster, folder: Path) -> None:
    cluster.want(TWO)
    cluster.fleet.hosts["gpu-01"].simctl(
        "fault", "nvmlDeviceCreateGpuInstanceWithPlacement", "--calls", "2", "--return", "999"
    )
    said = cluster.fleet.play("rollout", ok=False, mig_rollout_output=str(folder / "out"))
    report = json.loads((folder / "out" / "rollout.json").read_text())
    first, second = report["nodes"]
    assert (report["outcome"], report["failed"]) == ("failed", ["gpu-01"])
    assert (first["state"], second["state"]) == ("put_back", "waiting")
    assert first["error"]["next"] == "ansible-playbook gpufleet.mig.rollout --limit gpu-01"
    assert first["allocatable"]["after"] == OFFERS["1g.10gb"]
    assert re.search(r"gpu-02 +not begun", said)
    assert "gpufleet.io/previous" not in cluster.node("gpu-01")["metadata"]["annotations"]
    assert cluster.holder() is None, "the next run need not wait, wherever it is started"


@pytest.mark.full
def test_a_loaded_driver_is_replaced_when_its_node_is_drained_and_not_before(alone: Cluster) -> None:
    """Its layout is as wanted and stays; that the repository has no such driver is found out with the pods gone."""
    host, api = alone.fleet.hosts["gpu-02"], alone.api
    host.simctl("files", str(host.folder / "root"))
    device = host.gpus()[0]["instances"][0]["compute_instances"][0]["uuid"]
    kubelet(alone.fleet.folder, (TRAIN, KEY, device))
    trained = user_pod(TRAIN, "train", "gpu-02", KEY)
    owner = {"kind": "ReplicaSet", "name": "train", "uid": "r", "controller": True, "apiVersion": "apps/v1"}
    trained["metadata"]["ownerReferences"] = [owner]
    api.put(trained)
    alone.fleet.variables.update(driver_manage=True, driver_version="570", driver_key_url="file:///nowhere/key.asc")
    alone.want(SEVEN)
    stood = host.gpus()
    said = " ".join(alone.fleet.play("rollout", ok=False).split())
    assert 'gpu-02 was put back as it was but for its driver, because "Trust the repository\'s key" failed' in said
    assert [line for line in api.writes() if "/eviction" in line] == [
        "POST /api/v1/namespaces/ml/pods/train/eviction?fieldManager=gpufleet.mig"
    ]
    assert "unschedulable" not in alone.node("gpu-02")["spec"]
    assert alone.holder() is None
    assert host.gpus() == stood

    # a host that the roll-out leaves alone has nobody who would drain it
    alone.fleet.variables.pop("mig_layout")
    alone.fleet.write()
    said = " ".join(alone.fleet.play("rollout", ok=False).split())
    assert "ends every pod that uses a GPU. Give the host a mig_layout and run gpufleet.mig.rollout" in said


@pytest.mark.full
def test_no_gpu_is_reset_together_with_its_peers(folder: Path) -> None:
    """Two A100 behind an NVSwitch: the mode of one is changed only once the Fabric Manager runs."""
    a100 = {"product": "a100-sxm4-40gb"}
    fleet = Fleet(folder, {"gpu-01": [a100, a100]}, mig_layout=[{"gpus": 0, "mig": "enabled"}])
    host = fleet.hosts["gpu-01"]
    files = host.folder / "root"
    host.simctl("files", str(files))
    switch = files / "sys/bus/pci/devices/0000:c4:00.0"
    switch.mkdir()
    (switch / "vendor").write_text("0x10de\n")
    (switch / "class").write_text("0x068000\n")
    fleet.write()
    said = " ".join(fleet.play("rollout", ok=False).split())
    assert "gpu-01: GPU 0 has to be reset for its MIG mode" in said
    assert "start nvidia-fabricmanager, then run again" in said
    assert host.gpus()[0]["mig_mode"]["current"] == "disabled"

    manager = folder / "nv-fabricmanager"
    shutil.copy("/bin/sleep", manager)
    with subprocess.Popen([str(manager), "600"]) as running:
        fleet.play("rollout")
        running.kill()
    assert host.gpus()[0]["mig_mode"]["current"] == "enabled"


@pytest.mark.full
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_report_of_where_it_was(
    cluster: Cluster, folder: Path, kind: signal.Signals
) -> None:
    cluster.want(TWO)
    cluster.api.replace_after = 60  # the publishers do not come back
    report = folder / "out" / "rollout.json"
    with cluster.fleet.start("rollout", mig_rollout_output=str(report.parent)) as run:
        deadline = time.monotonic() + 240
        while not report.exists() or '"publishing"' not in report.read_text():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(run.pid, kind)
        run.wait(60)
    found = json.loads(report.read_text())
    assert (found["outcome"], [one["state"] for one in found["nodes"]]) == ("unfinished", ["publishing", "waiting"])
    assert found["nodes"][0]["phases"][-1]["seconds"] is None
    assert "gpu-01 | stopped while publishing" in report.with_suffix(".md").read_text()
    # its pods stay away until the same command again; the cordon says whose it is, and the other node was not touched
    assert cluster.node("gpu-01")["spec"]["unschedulable"] is True
    marks = cluster.node("gpu-01")["metadata"]["annotations"]
    assert (marks["gpufleet.io/run"], marks["gpufleet.io/was-schedulable"]) == (found["run"], "true")
    assert not cluster.node("gpu-02")["metadata"].get("annotations")
    # what stood before the change is on the node, whatever becomes of the run
    assert cluster.kept("gpu-01", "before")["layout"][0]["instances"][0] == {"profile": "1g.10gb", "start": 0}


@pytest.mark.full
def test_what_a_reboot_took_before_a_run_died_comes_back_with_the_next(alone: Cluster) -> None:
    """On a GPU that no entry of mig_layout names; nothing else knows what stood there."""
    stood = json.dumps({"layout": SEVEN, "strategy": "mixed", "run": "r0", "time": "2026-01-01T00:00:00Z"})
    marks = {"run": "r0", "was-schedulable": "true", "phase": "changing", "before": stood}
    node = alone.node("gpu-02")
    node["metadata"]["annotations"] = {f"gpufleet.io/{key}": value for key, value in marks.items()}
    node["spec"]["unschedulable"] = True
    alone.fleet.hosts["gpu-02"].simctl("reboot")
    assert alone.fleet.hosts["gpu-02"].gpus()[0]["instances"] == []
    alone.want([])
    alone.fleet.play("rollout")
    assert [one["profile"] for one in alone.fleet.hosts["gpu-02"].gpus()[0]["instances"]] == ["1g.10gb"] * 7
    assert not alone.node("gpu-02")["spec"].get("unschedulable")
    assert "gpufleet.io/before" not in alone.node("gpu-02")["metadata"]["annotations"]
    assert "changed=0" in alone.fleet.play("rollout")


@pytest.mark.full
def test_rollback_refuses_by_name_before_anything(cluster: Cluster) -> None:
    cluster.want(SEVEN)
    said = " ".join(cluster.fleet.play("rollback", ok=False).split())
    assert "This would put back all 2 hosts of the inventory" in said
    kept = json.dumps({"layout": TWO, "strategy": "mixed"})
    cluster.node("gpu-01")["metadata"]["annotations"] = {"gpufleet.io/previous": kept}
    said = " ".join(cluster.fleet.play("rollback", ok=False, mig_rollback_all=True).split())
    assert "gpu-02: node gpu-02 has no annotation gpufleet.io/previous" in said
    said = " ".join(cluster.fleet.play("rollback", "--limit", "gpu-01", ok=False, mig_layout=SEVEN).split())
    assert "given with -e, which would win over what stood before" in said
    cluster.want("{{ nowhere }}")
    said = " ".join(cluster.fleet.play("rollback", "--limit", "gpu-01", ok=False).split())
    assert "gpu-01: mig_layout of the inventory cannot be read" in said
    assert cluster.api.writes() == []


@pytest.mark.full
def test_a_second_rollback_returns(alone: Cluster) -> None:
    """As kubectl rollout undo does; where what stood before had another strategy, with that too."""
    kept = json.dumps({"layout": TWO, "strategy": "single", "run": "r0", "time": "2026-01-01T00:00:00Z"})
    alone.node("gpu-02")["metadata"]["annotations"] = {"gpufleet.io/previous": kept}
    profiles, strategies = [], []
    for _time in range(2):
        alone.fleet.play("rollback", "--limit", "gpu-02")
        profiles.append([one["profile"] for one in alone.fleet.hosts["gpu-02"].gpus()[0]["instances"]])
        strategies.append(alone.node("gpu-02")["metadata"]["labels"]["nvidia.com/device-plugin.config"])
    assert profiles == [["3g.40gb"] * 2, ["1g.10gb"] * 7]
    assert strategies == ["single", "mixed"]
    assert alone.kept("gpu-02", "previous")["layout"] == TWO, "and a third goes there again"


@pytest.mark.full
def test_nodes_that_no_pod_can_use_yet_keep_the_same(cluster: Cluster) -> None:
    """They are partitioned without being taken out, and a rollback of that is possible all the same."""
    for path in [path for path in cluster.api.objects if "/pods/" in path]:
        del cluster.api.objects[path]
    for name in ("gpu-01", "gpu-02"):
        cluster.node(name)["status"].update(allocatable={}, capacity={})
    cluster.want(TWO)
    said = cluster.fleet.play("rollout", ok=False, mig_verify_timeout=0, mig_publish_timeout=1)  # nothing publishes it
    assert said.count("= allocatable nothing of nvidia.com; strategy mixed; NOT VERIFIED") == 2, said
    assert cluster.holder() is None
    for name in ("gpu-01", "gpu-02"):
        assert cluster.kept(name, "layout")["layout"] == TWO
        assert len(cluster.kept(name, "previous")["layout"][0]["instances"]) == 7
        assert "unschedulable" not in cluster.node(name)["spec"]
