# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Another driver on a node of a cluster: its pods go first, and its layout is there again afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from integration.report.publishers import Publishers
from integration.report.test_report_playbook import TRAIN, kubelet, user_pod
from lab.gpufleet_lab import packages
from unit.kube_server import PLUGIN, Api, node, pod

from .conftest import Host

OLD, NEW = packages.DRIVERS
KEY = "nvidia.com/mig-3g.40gb"
CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"


@pytest.mark.full
def test_upgrade_and_downgrade_on_a_node_under_load(bare: Callable[[str], Host], tmp_path: Path) -> None:
    """The layout names one GPU; that of the other was made by hand and has to stand again too."""
    name = "bare-h100"
    host = bare(name)
    both = [{"gpus": gpu, "instances": [{"profile": "3g.40gb", "start": 4}]} for gpu in (0, 1)]
    host.play(playbook="site.yml", mig_layout=both, driver_version=OLD)
    stood = host.instances()
    api = Api(tmp_path)
    api.put(node(name, {KEY: 2}, {"nvidia.com/device-plugin.config": "mixed"}), pod(PLUGIN, name))
    publishers = Publishers(api, lambda _name: [one.split()[0] for one in host.instances() if one])
    cluster: dict[str, Any] = {
        "playbook": "gpufleet.mig.rollout",
        "mig_layout": both[:1],
        "mig_kubernetes": True,
        "mig_kubeconfig": api.kubeconfig(),
        "mig_install_plugin": False,
        "mig_gpu_feature_discovery": False,
    }
    try:
        for version in (NEW, OLD):
            device = re.findall(r"UUID: (MIG-[-0-9a-f]+)", host.sh("nvidia-smi -L"))[0]
            given = (kubelet(tmp_path, (TRAIN, KEY, device)) / CHECKPOINT).read_text().replace('"', '\\"')
            host.sh(f'mkdir -p /var/lib/kubelet/device-plugins && printf %s "{given}" > /var/lib/kubelet/{CHECKPOINT}')
            trained = user_pod(TRAIN, "train", name, KEY)
            owner = {"kind": "ReplicaSet", "name": "train", "uid": "r", "controller": True, "apiVersion": "apps/v1"}
            trained["metadata"]["ownerReferences"] = [owner]
            api.put(trained)
            api.requests.clear()

            said = host.play(driver_version=version, **cluster).output
            assert host.sh("cat /sys/module/nvidia/version") == version
            assert host.instances() == stood
            assert [line.split("?")[0] for line in api.writes() if "/eviction" in line] == [
                "POST /api/v1/namespaces/ml/pods/train/eviction"
            ]
            # what the driver does comes behind the eviction
            assert said.index("Cordon the node and evict these pods") < said.index("Hold it]")
            found = api.objects[f"/api/v1/nodes/{name}"]
            assert "unschedulable" not in found["spec"]
            assert found["status"]["allocatable"][KEY] == "2"
            assert host.play(driver_version=version, **cluster).changed == 0
    finally:
        publishers.stop()
        api.shutdown()
        api.server_close()
