#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module rollout_gate: wait until the fleet can spare some nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_gate
short_description: Wait until nothing speaks against taking some nodes out, and say which GPU pods are on them
version_added: "0.1.0"
description:
  - Asks every gate before a node is touched; none is asked in the middle of a change. What cannot be read counts as
    shut.
  - The whole run waits while the Lease of the roll-out lock carries the annotation C(gpufleet.io/paused), and outside
    of O(window). If they are still shut in the end, the module fails with RV(verdict) V(stop).
  - A node with the label C(gpufleet.io/skip) is left as it is; the module fails at once with RV(verdict) V(skip).
  - The budget counts over all GPU nodes of the cluster, whoever took them out. A node that is not Ready or is cordoned
    by anybody is out already, so a run that is limited to some hosts has the same budget as one over all.
  - A node that is not Ready, pods of O(blocking_pods) and alerts of O(alerts_url) stand in the way too. Then, and where
    the budget is used up, the module fails with RV(verdict) V(blocked).
  - Reads only.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  nodes:
    description: Names of the nodes that are to be taken out. With none, only the gates of the whole run are asked.
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
  window:
    description:
      - When nodes may be taken out, a dictionary of C(days) (list of V(mon) to V(sun), all without it), C(from) and
        C(to) (times of day, V(00:00) and V(24:00) without them; C(to) may be on the day after) and C(timezone) (a name
        such as V(Europe/Berlin), V(UTC) without it), or a list of such. Without it at any time.
      - The clock of the machine that runs the module counts. A node that was begun is finished.
    type: raw
  blocking_pods:
    description: >-
      Label selectors; no node is taken while an unfinished pod on it matches. A dictionary of C(selector) and
      C(namespace) means pods of that namespace on any node.
    type: list
    elements: raw
    default: []
  alerts_url:
    description: Address of a Prometheus; no node is taken while an alert fires there, or while it does not answer.
    type: str
  alerts_ignore:
    description: Regular expression for whole names of alerts that do not count.
    type: str
    default: Watchdog|InfoInhibitor
  pod_uids:
    description: UIDs of pods that are returned whatever they ask for, such as those of processes on the GPUs.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait until all gates are open.
    type: float
    default: 0
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: In check mode it does not wait and does not fail; what it would wait for is returned.
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_maintenance
  - module: gpufleet.mig.rollout_order
"""

EXAMPLES = r"""
- name: Two nodes at a time, and always eight whole GPUs for others
  gpufleet.mig.rollout_gate:
    nodes: [gpu-01, gpu-02]
    max_unavailable: 2
    min_available: {nvidia.com/gpu: 8}
    timeout: 600
  delegate_to: localhost

- name: Only at night on weekends, and not while a backup runs
  gpufleet.mig.rollout_gate:
    nodes: [gpu-01]
    window: {days: [sat, sun], from: "22:00", to: "04:00", timezone: Europe/Berlin}
    blocking_pods:
      - team=billing,critical=true
      - {selector: app=backup, namespace: ops}
    alerts_url: http://prometheus.monitoring.svc:9090
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: V(go); V(skip) where the node is left as it is, V(stop) where the whole run is, else V(blocked).
  returned: always
  type: str
  sample: go
pods:
  description: The GPU pods on each of the nodes, as M(gpufleet.mig.node_gpu_info) returns them.
  returned: success
  type: dict
fleet:
  description: Names of all GPU nodes of the cluster.
  returned: always
  type: list
  elements: str
gpufleet:
  description: One entry per node for reports and progress.
  returned: always
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: V(gates)., type: str, returned: always}
    wave: {description: O(wave)., type: int, returned: always}
    digests: {description: C(before) and C(target); not known here., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went; none here., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the call took., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
shut:
  description: Every shut gate.
  returned: always
  type: list
  elements: dict
  contains:
    gate:
      description: Which, V(paused), V(window), V(skip), V(ready), V(budget), V(pods) or V(alerts).
      type: str
      returned: always
    text: {description: Why., type: str, returned: always}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _gate, _kube, _lease, _lock, _nodes, _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "nodes": {"type": "list", "elements": "str", "required": True},
    "max_unavailable": {"type": "raw", "default": 1},
    "min_available": {"type": "dict", "default": {}},
    "window": {"type": "raw"},
    "blocking_pods": {"type": "list", "elements": "raw", "default": []},
    "alerts_url": {"type": "str"},
    "alerts_ignore": {"type": "str", "default": "Watchdog|InfoInhibitor"},
    "pod_uids": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "float", "default": 0},
}


def main() -> None:
    """Wait, read, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params, started = module.params, time.monotonic()
    timeout = 0 if module.check_mode else params["timeout"]
    told = params["lock"] or {"namespace": _lease.NAMESPACE, "name": _lease.NAME}
    try:
        settings = _gate.Settings.read(params)
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        keep = _lock.keeper(kube, params["lock"], dry=module.check_mode)
        lock = _lock.Lock(kube, told["namespace"], told["name"])
        answer = _gate.wait(kube, lock, params["nodes"], settings, timeout, keep)
        go = answer.verdict == "go" or module.check_mode
        pods = _nodes.gpu_pods(kube, params["nodes"], params["pod_uids"]) if go and params["nodes"] else {}
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    blockers = [
        {"kind": "gate", "name": f"gate {each.gate}", "reason": each.text, "remedy": "open it and run again"}
        for each in answer.shut
    ]
    seconds = time.monotonic() - started
    result = {
        "verdict": answer.verdict,
        "fleet": [node.name for node in answer.fleet],
        "gpufleet": [
            _progress.line(name, "gates", wave=params["wave"], seconds=seconds, blockers=blockers)
            for name in params["nodes"]
        ],
        "shut": [{"gate": each.gate, "text": each.text} for each in answer.shut],
    }
    if not go:
        module.fail_json(msg=answer.sentence(params["nodes"]), **result)
    module.exit_json(changed=False, pods=pods, **result)


if __name__ == "__main__":
    main()
