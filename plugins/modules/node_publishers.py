#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module node_publishers: choose and restart the programs that publish a node's GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_publishers
short_description: Choose the device plugin's configuration per node and restart its pods
version_added: "0.1.0"
description:
  - Sets the node label C(nvidia.com/device-plugin.config), which picks an entry of the chart's configuration map
    (and so the MIG strategy) for one node, where it differs.
  - Restarts the pods of the device plugin and of GPU feature discovery on chosen nodes, and waits until their
    replacements are ready. The device plugin enumerates GPUs only when it starts, so it must be restarted after each
    change of MIG instances.
  - All nodes of a call are handled at the same time.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  nodes:
    description:
      - What is wanted, per node name.
      - C(config) is the entry of the chart's configuration map; an empty string removes the label, no C(config)
        leaves it alone.
      - C(restart) says whether the pods on that node are restarted. A node on which no such pod runs has nothing to
        restart.
    type: dict
    required: true
  namespace:
    description: Namespace of the device plugin and of GPU feature discovery. An empty string looks in all namespaces.
    type: str
    default: nvidia-device-plugin
  managed:
    description:
      - The programs are this collection's. Otherwise somebody else installed them (NVIDIA's GPU operator, another
        chart), and they are used as they are. They are restarted all the same, but the node's label is only set where
        they read a configuration map that has the entry.
    type: bool
    default: true
  selector:
    description: Label selector that narrows which pods are looked at.
    type: str
  release:
    description: Only look at pods of this Helm release (label C(app.kubernetes.io/instance)).
    type: str
  timeout:
    description: Seconds to wait until the replacements are ready.
    type: float
    default: 120
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_gpu_info
  - module: gpufleet.mig.helm_release
  - module: gpufleet.mig.rollout_lock
"""

EXAMPLES = r"""
- name: Restart the GPU operator's device plugin and feature discovery on a node, wherever they are
  gpufleet.mig.node_publishers:
    nodes:
      gpu-01: {restart: true}
    namespace: ""
    managed: false
  delegate_to: localhost

- name: Publish mixed on one node, single on another, and restart where instances changed
  gpufleet.mig.node_publishers:
    nodes:
      gpu-01: {config: mixed, restart: true}
      gpu-02: {config: single}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
nodes:
  description: What was done (in check mode, what would be done), per node name.
  returned: success
  type: dict
  sample:
    gpu-01:
      changed: true
      config: {before: single, after: mixed}
      restarted:
        - app: nvidia-device-plugin
          name: nvidia-device-plugin-7xk2p
          namespace: nvidia-device-plugin
          uid: 1e6f4d0a-6f3e-4a7e-9d0e-0d3b3b7b7a11
          replaced_by: {name: nvidia-device-plugin-m9q4z, uid: 52f9a2d4-0f3c-4d55-a3e5-0a4c5c1f9b7e}
gpufleet:
  description: One entry per node for reports and progress.
  returned: success
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: V(publishers)., type: str, returned: always}
    wave: {description: O(wave)., type: int, returned: always}
    digests: {description: C(before) and C(target); not known here., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went; none here., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the call took., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _lock, _node_publishers, _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._nodes import Where

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "nodes": {"type": "dict", "required": True},
    "namespace": {"type": "str", "default": "nvidia-device-plugin"},
    "managed": {"type": "bool", "default": True},
    "selector": {"type": "str"},
    "release": {"type": "str"},
    "timeout": {"type": "float", "default": 120},
}


def main() -> None:
    """Read, plan, act, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params, started = module.params, time.monotonic()
    try:
        wanted = _node_publishers.check_wishes(params["nodes"])
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        keep = _lock.keeper(kube, params["lock"], dry=module.check_mode)
        where = Where(params["namespace"] or None, params["selector"], params["release"])
        steps = _node_publishers.plan_publishers(kube, wanted, where, params["managed"])
        if module.check_mode:
            done = _node_publishers.report(steps)
        else:
            done = _node_publishers.carry_out(kube, steps, where, params["timeout"], keep)
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    seconds = time.monotonic() - started
    module.exit_json(
        changed=any(step.changes for step in steps),
        nodes=done,
        diff=_node_publishers.difference(steps),
        gpufleet=[_progress.line(name, "publishers", wave=params["wave"], seconds=seconds) for name in done],
    )


if __name__ == "__main__":
    main()
