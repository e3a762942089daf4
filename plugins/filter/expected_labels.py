# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prediction of GPU feature discovery as a filter: which labels a node will bear."""

from __future__ import annotations

DOCUMENTATION = r"""
name: expected_labels
short_description: Which node labels GPU feature discovery sets for the GPUs of one host
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Says exactly which C(nvidia.com) labels NVIDIA's GPU feature discovery gives to the Kubernetes node of a host, from
    the GPUs of the host and the MIG strategy. Feed it C(after) of a plan to know that before anything is touched.
  - The rules are those of gpu-feature-discovery 0.20.0.
  - Not predicted are C(nvidia.com/gfd.timestamp), which is always another, and C(nvidia.com/gpu.clique) and
    C(nvidia.com/vgpu.host-driver-version), which tell of an NVLink fabric and of a hypervisor.
  - Nothing is asked. The filter needs no GPU, no driver and no cluster.
positional: strategy, host, config
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), or as C(after) of a plan.
    type: list
    elements: dict
    required: true
  strategy:
    description: The MIG strategy in force on the node.
    type: str
    choices: [none, single, mixed]
    required: true
  host:
    description:
      - What RV(gpufleet.mig.mig_info#module:host) tells of the host, with C(driver_version), C(cuda_version),
        C(machine) and C(gpu_mode).
    type: dict
    required: true
  config:
    description:
      - The entry of the configuration that device plugin and feature discovery share, as it stands in C(config.map) of
        the chart's values.
      - Without it, the defaults hold.
      - C(flags.migStrategy) in it is not read, O(strategy) counts.
    type: dict
    default: {}
seealso:
  - plugin: gpufleet.mig.plan
    plugin_type: filter
  - plugin: gpufleet.mig.expected_resources
    plugin_type: filter
  - module: gpufleet.mig.mig_info
  - module: gpufleet.mig.node_gpu_info
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  register: host

- name: Say what the node will be labelled once the layout of the inventory stands
  ansible.builtin.debug:
    msg: "{{ plan.after | gpufleet.mig.expected_labels(mig_strategy, host.host) }}"
  vars:
    plan: "{{ host.gpus | gpufleet.mig.plan(mig_layout) }}"

- name: Compare the labels of a node with the prediction
  ansible.builtin.assert:
    that: labels in [prediction.labels] + prediction.alternatives
  vars:
    prediction: "{{ host.gpus | gpufleet.mig.expected_labels('mixed', host.host) }}"
"""

RETURN = r"""
_value:
  description: The prediction.
  type: dict
  contains:
    labels:
      description: All labels that feature discovery sets, as text. Empty where it exits.
      type: dict
      sample: {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "nvidia.com/gpu.count": "7"}
    alternatives:
      description:
        - Other whole label sets that feature discovery may give for the same state, by chance. Only a node with GPUs of
          several models has any.
      type: list
      elements: dict
    error:
      description:
        - Why feature discovery publishes C(MIG-INVALID) (RV(_value.labels) then holds what it publishes), or the end of
          its last log line where it exits without labels. V(null) where all is well.
      type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _prediction
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def expected_labels(
    gpus: list[dict[str, Any]], strategy: str, host: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError carries the sentence for a strategy or input that cannot be read."""
    try:
        if not isinstance(host, Mapping):
            raise MigError("the labels need the facts of the host: give what gpufleet.mig.mig_info returns as host.")
        return _prediction.expected_labels(gpus, strategy, host, config)
    except MigError as error:
        raise AnsibleFilterError(f"gpufleet.mig.expected_labels: {error}") from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"expected_labels": expected_labels}
