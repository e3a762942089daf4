# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prediction of the device plugin as a filter: which extended resources a node will offer."""

from __future__ import annotations

DOCUMENTATION = r"""
name: expected_resources
short_description: Which extended resources NVIDIA's device plugin registers for the GPUs of one host
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Says exactly which keys with which numbers the Kubernetes node of a host offers, from the GPUs of the host and the
    MIG strategy of its device plugin. Feed it C(after) of a plan to know that before anything is touched.
  - The rules are those of NVIDIA's k8s-device-plugin 0.20.0.
  - Nothing is asked. The filter needs no GPU, no driver and no cluster.
positional: strategy, config
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), or as C(after) of a plan.
    type: list
    elements: dict
    required: true
  strategy:
    description:
      - The MIG strategy in force on the node.
      - With V(none), every GPU is one C(nvidia.com/gpu), with MIG or without. With V(single), every MIG device is one
        C(nvidia.com/gpu). With V(mixed), MIG devices are C(nvidia.com/mig-PROFILE) and GPUs without MIG are
        C(nvidia.com/gpu).
    type: str
    choices: [none, single, mixed]
    required: true
  config:
    description:
      - The entry of the plugin's configuration that the node uses, as it stands in C(config.map) of the chart's values,
        with C(version), C(flags) and C(sharing). C(deviceListStrategy) may also stand at the top, where the chart has
        it; it wins over the one in C(flags).
      - Without it, the plugin's defaults hold.
      - C(flags.migStrategy) in it is not read, O(strategy) counts.
    type: dict
    default: {}
seealso:
  - plugin: gpufleet.mig.plan
    plugin_type: filter
  - plugin: gpufleet.mig.expected_labels
    plugin_type: filter
  - module: gpufleet.mig.mig_info
  - module: gpufleet.mig.node_gpu_info
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  register: host

- name: Say what the node offers once the layout of the inventory stands
  ansible.builtin.debug:
    msg: "{{ (host.gpus | gpufleet.mig.plan(mig_layout)).after | gpufleet.mig.expected_resources('mixed') }}"
  # => {"resources": {"nvidia.com/mig-1g.10gb": 7}, "resource_alternatives": [], "error": null}

- name: Stop before a layout goes out under which the device plugin would exit
  ansible.builtin.assert:
    that: prediction.error is none
    fail_msg: "{{ prediction.error }}"
  vars:
    prediction: "{{ host.gpus | gpufleet.mig.expected_resources('single') }}"

- name: Count with time-slicing, ten pods on each GPU
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.expected_resources('none', config) }}"
  vars:
    config:
      version: v1
      sharing:
        timeSlicing:
          resources:
            - name: nvidia.com/gpu
              replicas: 10
"""

RETURN = r"""
_value:
  description: The prediction.
  type: dict
  contains:
    resources:
      description:
        - Keys of the node's allocatable to their numbers. A key that is not here must not be there, or be 0.
        - Empty where the plugin has nothing to register, and where it exits.
      type: dict
      sample: {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-1g.5gb": 1}
    resource_alternatives:
      description:
        - Other sets that are right too. With the strategy V(none) a GPU with MIG and without a MIG device is seen by a
          device plugin whose container is older than that, and not by one whose container is made later, because the
          container toolkit has nothing of that GPU to give.
      type: list
      elements: dict
      sample: []
    error:
      description:
        - The end of the plugin's last log line where it exits on this node. It then registers nothing; keys of an
          earlier registration go to 0. V(null) where it runs.
      type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _prediction
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def expected_resources(
    gpus: list[dict[str, Any]], strategy: str, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError carries the sentence for a strategy or input that cannot be read."""
    try:
        return _prediction.expected_resources(gpus, strategy, config)
    except MigError as error:
        raise AnsibleFilterError(f"gpufleet.mig.expected_resources: {error}") from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"expected_resources": expected_resources}
