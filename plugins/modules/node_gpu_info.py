#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module node_gpu_info: what a cluster shows of its GPU nodes, and whether that is what is expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_gpu_info
short_description: Read what Kubernetes shows of GPU nodes, and wait until it is as expected
version_added: "0.1.0"
description:
  - Reads allocatable and capacity of every C(nvidia.com) resource, the C(nvidia.com) labels and the pods of the device
    plugin and of GPU feature discovery, for many nodes in one call.
  - With O(pods) it also returns the pods that ask for C(nvidia.com) resources on each node.
  - With O(expect) it compares exactly and, with O(timeout), waits until the nodes are as expected.
  - Runs where the Kubernetes API can be reached, usually on the controller; it never writes.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  nodes:
    description: Names of the Kubernetes nodes.
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the device plugin and of GPU feature discovery. An empty string looks in all namespaces.
    type: str
    default: nvidia-device-plugin
  selector:
    description:
      - Label selector that narrows which pods are looked at. Which of them is a device plugin and which is feature
        discovery is told by their containers, because the official chart gives both the same labels.
    type: str
  release:
    description: Only look at pods of this Helm release (label C(app.kubernetes.io/instance)).
    type: str
  expect:
    description:
      - What is wanted, per node name. A node without an entry is only read.
      - C(resources) is a dictionary of resource keys and counts; every C(nvidia.com) key of the node counts, also
        one that should not be there; a key at 0 is the same as no key. C(resource_alternatives) is a list of other
        such dictionaries that are right too.
      - C(labels) is a dictionary of the labels of GPU feature discovery, C(alternatives) a list of other label sets
        that are right too.
      - C(capacity) is as C(resources), but of capacity, which the kubelet keeps for a while after a resource has gone.
      - A part that is not given is not compared.
    type: dict
    default: {}
  publishers:
    description: Programs that must have a ready pod on each node of O(expect).
    type: list
    elements: str
    choices: [nvidia-device-plugin, gpu-feature-discovery]
    default: [nvidia-device-plugin, gpu-feature-discovery]
  pods:
    description:
      - Also return the pods of all namespaces that ask for C(nvidia.com) resources on each node. They are read after
        everything else, so that they are newer than what a caller has read from the host before.
    type: bool
    default: false
  pod_uids:
    description:
      - UIDs of pods that are returned with O(pods) whatever they ask for, such as those of the processes that
        M(gpufleet.mig.pod_devices_info) found.
    type: list
    elements: str
    default: []
  refused:
    description: Also return the GPU pods of all namespaces that the kubelet refused and that nobody removed.
    type: bool
    default: false
  others:
    description:
      - Also return which other nodes of the cluster the collection has configured. They would lose the device plugin
        with its release.
    type: bool
    default: false
  topology_key:
    description: A label of the nodes, such as C(topology.kubernetes.io/zone), whose value is returned as C(zone).
    type: str
  timeout:
    description: Seconds to wait until everything is as expected; 0 looks once.
    type: float
    default: 0
  fail_on_mismatch:
    description: Fail when something still differs at the end. Otherwise only return the differences.
    type: bool
    default: true
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_publishers
  - module: gpufleet.mig.rollout_lock
  - plugin: gpufleet.mig.expected_resources
    plugin_type: filter
  - plugin: gpufleet.mig.expected_labels
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What do the nodes show?
  gpufleet.mig.node_gpu_info:
    nodes: [gpu-01, gpu-02]
    kubeconfig: ~/.kube/config
  register: shown
  delegate_to: localhost
  run_once: true

- name: Wait until the node shows its instances
  gpufleet.mig.node_gpu_info:
    nodes: ["{{ mig_node_name }}"]
    expect:
      gpu-01:
        resources:
          nvidia.com/mig-1g.10gb: 7
    timeout: 120
  delegate_to: localhost
"""

RETURN = r"""
nodes:
  description: What the cluster shows, per node name.
  returned: always
  type: dict
  contains:
    exists: {description: The cluster has a node of this name., type: bool, returned: always}
    ready: {description: The node's Ready condition is True., type: bool, returned: always}
    schedulable: {description: The node is not cordoned., type: bool, returned: always}
    allocatable:
      description: Allocatable of every C(nvidia.com) resource, keys at 0 included.
      type: dict
      returned: always
      sample: {nvidia.com/mig-1g.10gb: 7}
    capacity: {description: Capacity of every C(nvidia.com) resource., type: dict, returned: always}
    skipped:
      description: The label C(gpufleet.io/skip) that keeps roll-outs off the node, null where it has none.
      type: str
      returned: always
      sample: node gpu-04 carries the label gpufleet.io/skip=ticket-815
    zone: {description: Value of the label O(topology_key)., type: str, returned: always}
    stale:
      description:
        - Resources with a capacity of which nothing can be given out, because no device plugin offers them any more.
          The kubelet sets their capacity to 0 five minutes later, or when it is restarted.
      type: list
      elements: str
      returned: always
      sample: [nvidia.com/gpu]
    labels: {description: Every C(nvidia.com) label of the node., type: dict, returned: always}
    made:
      description: What a roll-out made last, with C(layout), C(strategy), C(run) and C(time). Null for none.
      type: dict
      returned: always
    previous: {description: 'What stood before that, in the same form.', type: dict, returned: always}
    before:
      description: What stood when a change began that did not end, in the same form. Null for none.
      type: dict
      returned: always
    publishers:
      description: Pods of the device plugin and of GPU feature discovery on the node.
      type: list
      elements: dict
      returned: always
      sample:
        - name: nvidia-device-plugin-7xk2p
          namespace: nvidia-device-plugin
          uid: 1e6f4d0a-6f3e-4a7e-9d0e-0d3b3b7b7a11
          app: nvidia-device-plugin
          ready: true
          ending: false
          restarts: 0
          controller: {kind: DaemonSet, name: nvidia-device-plugin, uid: 7d4f0d0e-31c0-4d0b-8a4e-f6a6b5f5c1d2}
    pods:
      description: GPU pods on the node by namespace and name. Without O(pods) there is no such key.
      type: list
      elements: dict
      returned: with O(pods)
      contains:
        uid: {description: UID of the pod., type: str, returned: always}
        kubelet_uid:
          description: UID that the kubelet knows it by. It differs for a static pod only.
          type: str
          returned: always
        namespace: {description: Namespace of the pod., type: str, returned: always}
        name: {description: Name of the pod., type: str, returned: always}
        owner:
          description: C(kind), C(name) and C(uid) of what makes a new pod when this one goes. Null for a bare pod.
          type: dict
          returned: always
        phase: {description: Phase of the pod., type: str, returned: always, sample: Running}
        reason: {description: Why it failed., type: str, returned: always, sample: UnexpectedAdmissionError}
        finished: {description: It has ended for good and holds no device., type: bool, returned: always}
        ending: {description: It is deleted and may still run., type: bool, returned: always}
        requests:
          description: C(nvidia.com) resources that each container asks for.
          type: dict
          returned: always
          sample: {train: {nvidia.com/mig-1g.10gb: 1}}
    refused:
      description: Names of pods with reason C(UnexpectedAdmissionError). They never ran and stay until removed.
      type: list
      elements: str
      returned: with O(refused)
      sample: [shop/train-5x2kq]
    mismatch:
      description: One sentence per difference from O(expect), empty when there is none.
      type: list
      elements: str
      returned: always
      sample: ["node gpu-01: allocatable nvidia.com/mig-1g.10gb is 6, wanted is 7"]
others:
  description: Names of the cluster's other nodes with the label by which the device plugin picks its configuration.
  type: list
  elements: str
  returned: with O(others)
gpufleet:
  description: One entry per node for reports and progress.
  returned: always
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: V(shown)., type: str, returned: always}
    wave: {description: O(wave)., type: int, returned: always}
    digests: {description: C(before) and C(target); not known here., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went; none here., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the call took., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
elapsed:
  description: Seconds that the module waited.
  returned: always
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _lock, _nodes, _pods, _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

PUBLISHERS = ["nvidia-device-plugin", "gpu-feature-discovery"]

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "nodes": {"type": "list", "elements": "str", "required": True},
    "namespace": {"type": "str", "default": "nvidia-device-plugin"},
    "selector": {"type": "str"},
    "release": {"type": "str"},
    "expect": {"type": "dict", "default": {}},
    "publishers": {"type": "list", "elements": "str", "choices": PUBLISHERS, "default": PUBLISHERS},
    "pods": {"type": "bool", "default": False},
    "pod_uids": {"type": "list", "elements": "str", "default": []},
    "refused": {"type": "bool", "default": False},
    "others": {"type": "bool", "default": False},
    "topology_key": {"type": "str", "no_log": False},
    "timeout": {"type": "float", "default": 0},
    "fail_on_mismatch": {"type": "bool", "default": True},
}


def main() -> None:
    """Read, compare, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    started = time.monotonic()
    try:
        expect = _nodes.check_expectations(params["expect"], params["nodes"])
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        nodes = _nodes.read_nodes(
            kube,
            params["nodes"],
            _nodes.Where(params["namespace"] or None, params["selector"], params["release"]),
            expect,
            params["publishers"],
            params["timeout"],
            _lock.keeper(kube, params["lock"], dry=module.check_mode),
            params["topology_key"],
        )
        if params["pods"]:
            for name, pods in _nodes.gpu_pods(kube, params["nodes"], params["pod_uids"]).items():
                nodes[name]["pods"] = pods
        if params["refused"]:
            for name, refused in _nodes.refused_pods(kube, params["nodes"]).items():
                nodes[name]["refused"] = [_pods.full_name(pod) for pod in refused]
        found = {"others": _nodes.others(kube, params["nodes"])} if params["others"] else {}
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    elapsed = round(time.monotonic() - started, 1)
    lines = [
        _progress.line(name, "shown", wave=params["wave"], seconds=elapsed, error="; ".join(node["mismatch"]) or None)
        for name, node in nodes.items()
    ]
    differences = [sentence for node in nodes.values() for sentence in node["mismatch"]]
    if differences and params["fail_on_mismatch"]:
        after = f" after {params['timeout']:g} s" if params["timeout"] else ""
        module.fail_json(
            msg=f"{len(differences)} difference(s){after}: " + "; ".join(differences) + ".",
            nodes=nodes,
            elapsed=elapsed,
            gpufleet=lines,
        )
    module.exit_json(changed=False, nodes=nodes, elapsed=elapsed, gpufleet=lines, **found)


if __name__ == "__main__":
    main()
