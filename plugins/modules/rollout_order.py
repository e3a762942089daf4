#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module rollout_order: in which order and in which batches the nodes of a cluster are changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_order
short_description: Put the nodes of a roll-out in an order that holds what must stay available
version_added: "0.1.0"
description:
  - Reads the nodes of the cluster and puts those that change in order. Nodes that an earlier run left in the middle of
    their change come first. Of the others the given order is kept where it holds O(min_available), whatever is out of
    service already; else another one that does. With O(topology_key) nodes that are out together, or single ones that
    follow each other, are of different zones where that can be.
  - Cuts the order into waves, the first of them the canary, and each wave into batches of as many nodes as may be out
    at a time. No batch crosses a gate between waves.
  - Fails where a setting cannot be read, or where no order holds O(min_available), with the numbers.
  - Reads only.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  changes:
    description: >-
      The nodes that change, in the order of the inventory. Each has C(node), its name, and C(after), a count per
      C(nvidia.com) resource that it offers when it is done.
    type: list
    elements: dict
    required: true
    suboptions:
      node:
        description: Name of the node.
        type: str
        required: true
      after:
        description: What it offers when it is done, a count per resource.
        type: dict
        default: {}
  waves:
    description: Gates over what is done in all, numbers of nodes or shares of those that change.
    type: raw
    default: [1, 10%, 25%, 100%]
  max_unavailable:
    description: How many GPU nodes of the cluster may be out at a time, a number or a share.
    type: raw
    default: 1
  min_available:
    description: What the cluster must offer at any time, a count per C(nvidia.com) resource.
    type: raw
    default: {}
  topology_key:
    description: A label of the nodes, such as C(topology.kubernetes.io/zone).
    type: str
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.rollout_gate
"""

EXAMPLES = r"""
- name: Say in which order three nodes go
  gpufleet.mig.rollout_order:
    changes:
      - {node: gpu-01, after: {nvidia.com/mig-1g.10gb: 56}}
      - {node: gpu-02, after: {nvidia.com/mig-1g.10gb: 56}}
      - {node: gpu-03, after: {nvidia.com/gpu: 8}}
    waves: [1, "50%", "100%"]
    max_unavailable: 2
    min_available: {nvidia.com/gpu: 8}
    topology_key: topology.kubernetes.io/zone
  delegate_to: localhost
"""

RETURN = r"""
order:
  description: Names of the nodes in their order.
  returned: success
  type: list
  elements: str
waves:
  description: How many nodes each wave has.
  returned: success
  type: list
  elements: int
batches:
  description: How many nodes each batch has, as C(serial) of a play takes it.
  returned: success
  type: list
  elements: int
skipped:
  description: All nodes with the label C(gpufleet.io/skip), and why they are left as they are. RV(order) has none.
  returned: success
  type: dict
  sample: {gpu-04: node gpu-04 carries the label gpufleet.io/skip=ticket-815}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _order, _waves
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    "changes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"node": {"type": "str", "required": True}, "after": {"type": "dict", "default": {}}},
    },
    "waves": {"type": "raw", "default": list(_waves.DEFAULT_GATES)},
    "max_unavailable": {"type": "raw", "default": 1},
    "min_available": {"type": "raw", "default": {}},
    "topology_key": {"type": "str", "no_log": False},
}


def main() -> None:
    """Read, decide, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    after = {
        change["node"]: {key: int(count) for key, count in change["after"].items()} for change in params["changes"]
    }
    try:
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        found = _order.put(
            list(kube.items("/api/v1/nodes")),
            after,
            params["waves"],
            params["max_unavailable"],
            params["min_available"],
            params["topology_key"],
        )
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    module.exit_json(changed=False, order=found.names, waves=found.waves, batches=found.batches, skipped=found.skipped)


if __name__ == "__main__":
    main()
