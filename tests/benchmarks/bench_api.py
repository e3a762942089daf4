# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a roll-out asks of the Kubernetes API and how many modules it starts, per node.

playbooks/rollout.yml runs on simulated hosts against a real kube-apiserver that knows 10 and then 1,000 nodes. The API
server's audit log counts the requests, the hosts' Python the modules: nothing of the collection counts itself. What is
missing of a cluster (kubelets, DaemonSet controller, device plugin) is played here. A node's own share is what a run
that changes two nodes asks beyond one that changes one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.figures import figure
from integration.helm.helm_cluster import Cluster
from integration.modules.simulated_host import BUILD, ROOT, SimulatedHost, build_simulator, own_etc
from unit.kube_server import GFD, NAMESPACE, PLUGIN, node, pod

from ansible_collections.gpufleet.mig.plugins.module_utils._checkpoint import checksum

FLEETS = (10, 1000)
OURS = ["gpu-0000", "gpu-0001", "gpu-0002"]
HALVES = [{"gpus": "all", "instances": {"3g.40gb": 2}}]
CUT = [{"gpus": 0, "instances": {"1g.10gb": 7}}, {"gpus": "rest", "instances": {"3g.40gb": 2}}]
SHOWN = {False: {"nvidia.com/mig-3g.40gb": 16}, True: {"nvidia.com/mig-1g.10gb": 7, "nvidia.com/mig-3g.40gb": 14}}
"""Eight GPUs, one of them cut anew or not: what the device plugin then offers."""
PODS, MUST_GO = 8, 2
"""Running pods on each of our nodes, and those on the GPU that is cut anew."""
MAX_REQUESTS, PER_EVICTED = 25, 3
MAX_ON_HOST, MAX_ON_CONTROLLER = 8, 6
READS = ("get", "list")
MERGE = "application/merge-patch+json"
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


class Fleet(Cluster):
    """An API server with many nodes. Some of them are simulated hosts with running pods."""

    def __init__(self, folder: Path, size: int, ours: int = len(OURS)) -> None:
        super().__init__(folder)
        self.ours = [f"gpu-{number:04}" for number in range(ours)]
        self.audit = folder / "audit.log"
        policy = folder / "policy.json"
        policy.write_text(json.dumps(POLICY))
        self.serve(f"--audit-policy-file={policy}", f"--audit-log-path={self.audit}", "--audit-log-mode=blocking")
        self.cut: dict[str, bool] = dict.fromkeys(self.ours, False)
        self.hosts = {name: SimulatedHost(folder / name, ["h100-sxm5-80gb"] * 8) for name in self.ours}
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self._add_node, [f"gpu-{number:04}" for number in range(size)]))
        for name in self.ours:
            self._start_pods(name)
        threading.Thread(target=self._play_kubelets, daemon=True).start()

    def _add_node(self, name: str) -> None:
        self.call("POST", "/api/v1/nodes", node(name, SHOWN[False], {"nvidia.com/device-plugin.config": "mixed"}))
        for app in (PLUGIN, GFD):
            self._add_publisher(app, name)

    def _add_publisher(self, app: str, name: str) -> None:
        made = pod(app, name)
        made["metadata"] = {**made["metadata"], "name": f"{app}-{name}", "uid": None}
        self._run(made)

    def _run(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A pod as its kubelet reports it."""
        for container in wanted["spec"]["containers"]:
            container["image"] = "none"
        wanted["spec"].pop("volumes", None)
        folder = f"/api/v1/namespaces/{wanted['metadata']['namespace']}/pods"
        made: dict[str, Any] = self.call("POST", folder, wanted)
        if wanted["spec"]["nodeName"] in self.ours:  # of the others nobody asks how their pods are
            status = {key: value for key, value in wanted["status"].items() if key != "containerStatuses"}
            self.call("PATCH", f"{folder}/{made['metadata']['name']}/status", {"status": status}, MERGE)
        return made

    def _start_pods(self, name: str) -> None:
        """The layout, a pod on one instance of each of the last GPUs and on both of GPU 0, and who holds what."""
        answer = self.hosts[name].run("mig_layout", layout=HALVES)
        instances = [gpu["instances"] for gpu in answer["gpus"]]
        places = [*instances[0], *(each[0] for each in instances[1 : PODS - MUST_GO + 1])]
        entries = []
        for number, place in enumerate(places):
            resource = "nvidia.com/mig-3g.40gb"
            metadata = {"namespace": "default", "name": f"train-{name}-{number}"}
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "train", "uid": "train", "controller": True}
            container = {"name": "main", "resources": {"limits": {resource: "1"}}}
            made = self._run(
                {
                    "metadata": {**metadata, "ownerReferences": [owner]},
                    "spec": {"nodeName": name, "containers": [container]},
                    "status": {"phase": "Running"},
                }
            )
            uuid = place["compute_instances"][0]["uuid"]
            entry = {"PodUID": made["metadata"]["uid"], "ContainerName": "main", "ResourceName": resource}
            entries.append({**entry, "DeviceIDs": {"-1": [uuid]}, "AllocResp": ""})
        data = {"PodDeviceEntries": entries, "RegisteredDevices": None}
        plugins = self.folder / name / "kubelet" / "device-plugins"
        plugins.mkdir(parents=True)
        (plugins / "kubelet_internal_checkpoint").write_text(json.dumps({"Data": data, "Checksum": checksum(data)}))

    def _play_kubelets(self) -> None:
        """Pods that are deleted go; publishers come back, and then the node offers what its GPUs are cut into."""
        while not self._stop.wait(0.1):
            try:
                for name in self.ours:
                    for one in self.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={name}")["items"]:
                        if one["metadata"].get("deletionTimestamp"):
                            self._end(name, one["metadata"])
            except OSError:
                if not self._stop.is_set():
                    raise

    def _end(self, name: str, metadata: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self.call("DELETE", path, {"gracePeriodSeconds": 0})
        if metadata["namespace"] != NAMESPACE:
            return
        app = metadata["name"].removesuffix(f"-{name}")
        self._add_publisher(app, name)
        if app == PLUGIN:
            amounts = {key: str(SHOWN[self.cut[name]].get(key, 0)) for key in SHOWN[True]}
            status = {"allocatable": amounts, "capacity": amounts}
            self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)

    def roll_out(self, *cut: str) -> tuple[Counter[str], list[dict[str, Any]]]:
        """Cut GPU 0 of these hosts anew; {place: modules started there} and what the API server was asked."""
        self.cut.update(dict.fromkeys(cut, True))
        launches = self.folder / "launches"
        launches.write_text("")
        self.audit.write_text("")  # the server appends
        mounts = f"mount -t tmpfs none /var/lib && {own_etc('/var/lib')}"
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"),
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(self._inventory(launches)), "gpufleet.mig.rollout"),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(done.stdout[-6000:] + done.stderr)
        entries = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return Counter(launches.read_text().split()), [one for one in entries if one["userAgent"] == "gpufleet.mig"]

    def _inventory(self, launches: Path) -> Path:
        hosts: dict[str, Any] = {}
        for name in (*self.ours, "localhost"):
            wrapper = self.folder / f"python-{name}"
            simulated = f"NVML_SIM_STATE={self.folder / name}/nvml.state LD_LIBRARY_PATH={BUILD} PATH={BUILD}:$PATH"
            wrapper.write_text(
                f"#!/bin/sh\necho {name} >> {launches}\n"
                f"{'' if name == 'localhost' else f'export {simulated}'}\n"
                f'exec {sys.executable} "$@"\n'
            )
            wrapper.chmod(0o755)
            hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(wrapper)}
        for name in self.ours:
            hosts[name]["mig_layout"] = CUT if self.cut[name] else HALVES
            hosts[name]["mig_kubelet_dir"] = str(self.folder / name / "kubelet")
        everywhere = {
            "ansible_become": False,
            "mig_hosts": "gpu-*",
            "mig_install_pynvml": False,
            "mig_install_plugin": False,
            "mig_gpu_feature_discovery": False,
            "mig_kubeconfig": self.kubeconfig(),
        }
        path = self.folder / "inventory.json"
        path.write_text(json.dumps({"all": {"hosts": hosts, "vars": everywhere}}))
        return path.rename(path.with_suffix(".yml"))


def kinds(asked: list[dict[str, Any]]) -> Counter[str]:
    """Requests by kind; renewals of the lock and retries after 429 are none."""
    found: Counter[str] = Counter()
    for one in asked:
        resource = one.get("objectRef", {}).get("resource", "")
        if resource == "leases" or one["responseStatus"]["code"] == 429:
            continue
        kind = "watches" if one["verb"] == "watch" else "reads" if one["verb"] in READS else "writes"
        found[kind] += 1
        found[f"{one['verb']} {resource}"] += kind != "watches"
    return found


def measure(size: int) -> tuple[bool, float]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        fleet = Fleet(Path(folder), size)
        try:
            same_starts, same = fleet.roll_out()
            one_starts, one = fleet.roll_out(OURS[0])
            two_starts, two = fleet.roll_out(*OURS[1:])
        finally:
            fleet.down()
    own = kinds(two) - kinds(one)
    requests = own["reads"] + own["writes"]
    evictions = [each for each in one if each["objectRef"].get("subresource") == "eviction"]
    of_others = [each for each in one if each["verb"] == "patch" and each["objectRef"].get("name") in OURS[1:]]
    say = f"roll-out, {size} nodes"
    detail = ", ".join(f"{count} {what}" for what, count in sorted(own.items()) if " " in what)
    good = figure(
        f"{say}: API requests per changed node, {MUST_GO} pods evicted",
        requests,
        "",
        MAX_REQUESTS + PER_EVICTED * MUST_GO,
        detail=detail,
    )
    figure(f"{say}: watches per changed node", own["watches"], "")
    good &= figure(f"{say}: publisher pods restarted per changed node", own["delete pods"], "", len((PLUGIN, GFD)))
    whole = kinds(one)["reads"] + kinds(one)["writes"]
    figure(f"{say}: API requests of a run beside its changed nodes", whole - requests, "")
    good &= figure(f"{say}: pods evicted / pods that had to go", len(evictions) / MUST_GO, "", 1)
    good &= figure(f"{say}: writes where every node matches", kinds(same)["writes"], "", 0)
    good &= figure(f"{say}: writes to nodes that match beside one that does not", len(of_others), "", 0)
    good &= figure(f"{say}: modules on the host of a changed node", one_starts[OURS[0]], "", MAX_ON_HOST)
    per_node = two_starts["localhost"] - one_starts["localhost"]
    good &= figure(f"{say}: modules on the controller per changed node", per_node, "", MAX_ON_CONTROLLER)
    good &= figure(f"{say}: modules on the host of a node that matches", same_starts[OURS[0]], "", 1)
    figure(f"{say}: modules on the controller where every node matches", same_starts["localhost"], "")
    return good, requests


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    sizes = [int(word) for word in sys.argv[1:]] or FLEETS
    results = [measure(size) for size in sizes]
    more = results[-1][1] - results[0][1]
    same = figure(f"roll-out: API requests per changed node at {sizes[-1]} nodes beyond {sizes[0]}", more, "", 0)
    return 0 if same and all(good for good, _requests in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
