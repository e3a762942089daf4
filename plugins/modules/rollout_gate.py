#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module rollout_gate: wait until the fleet can spare some nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_gate
short_description: Wait until the fleet can spare some nodes, and say which GPU pods are on them
version_added: "0.1.0"
description:
  - Counts over all GPU nodes of the cluster, whoever took them out. A node that is not Ready or is cordoned by anybody
    is out already, so a run that is limited to some hosts has the same budget as one over all.
  - Reads only.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  nodes:
    description: Names of the nodes that are to be taken out.
    type: list
    elements: str
    required: true
  max_unavailable:
    description: How many GPU nodes may be out at a time, these included; a number or a share such as V(10%).
    type: raw
    default: 1
  min_available:
    description: What the rest of the fleet must offer meanwhile, a count per C(nvidia.com) resource.
    type: dict
    default: {}
  pod_uids:
    description: UIDs of pods that are returned whatever they ask for, such as those of processes on the GPUs.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait until the nodes can be spared.
    type: float
    default: 0
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: In check mode it does not wait; what it would wait for is returned.
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_maintenance
"""

EXAMPLES = r"""
- name: Two nodes at a time, and always eight whole GPUs for others
  gpufleet.mig.rollout_gate:
    nodes: [gpu-01, gpu-02]
    max_unavailable: 2
    min_available: {nvidia.com/gpu: 8}
    timeout: 600
  delegate_to: localhost
"""

RETURN = r"""
pods:
  description: The GPU pods on each of the nodes, as M(gpufleet.mig.node_gpu_info) returns them.
  returned: success
  type: dict
fleet:
  description: Names of all GPU nodes of the cluster.
  returned: success
  type: list
  elements: str
gpufleet:
  description: One entry per node for reports and progress.
  returned: success
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: V(spared)., type: str, returned: always}
    wave: {description: O(wave)., type: int, returned: always}
    digests: {description: C(before) and C(target); not known here., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went; none here., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the call took., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
objections:
  description: Why the nodes cannot be spared.
  returned: when the module fails because of them, and in check mode
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _budget, _gate, _kube, _lock, _nodes, _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "nodes": {"type": "list", "elements": "str", "required": True},
    "max_unavailable": {"type": "raw", "default": 1},
    "min_available": {"type": "dict", "default": {}},
    "pod_uids": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "float", "default": 0},
}


def main() -> None:
    """Wait, read, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params, said, started = module.params, [], time.monotonic()
    try:
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        keep = _lock.keeper(kube, params["lock"], dry=module.check_mode)
        minimum = _budget.read_min_available(params["min_available"])
        timeout = 0 if module.check_mode else params["timeout"]
        try:
            fleet = _gate.wait(kube, params["nodes"], params["max_unavailable"], minimum, timeout, keep)
        except MigError as error:
            if not module.check_mode or "objections" not in error.context:
                raise
            fleet, said = [], error.context["objections"]
        pods = _nodes.gpu_pods(kube, params["nodes"], params["pod_uids"])
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    seconds = time.monotonic() - started
    module.exit_json(
        changed=False,
        pods=pods,
        fleet=[node.name for node in fleet],
        objections=said,
        gpufleet=[_progress.line(name, "spared", wave=params["wave"], seconds=seconds) for name in params["nodes"]],
    )


if __name__ == "__main__":
    main()
