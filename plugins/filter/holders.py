# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds which GPU or instance of one host, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: holders
short_description: Who holds which GPU or MIG instance of one host
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Crosses three witnesses, which are NVML's instances and processes, the kubelet's checkpoint, and the pods that the
    Kubernetes API lists as not finished. What they do not agree on is told and never counts as free.
  - Read them in this order, so that a pod that comes meanwhile is seen as one whose devices are unknown.
positional: devices, pods
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus).
    type: list
    elements: dict
    required: true
  devices:
    description:
      - What M(gpufleet.mig.pod_devices_info) returned, with C(checkpoint) and C(processes). V(null) for a host in no
        cluster.
    type: dict
  pods:
    description:
      - The pods of the node as M(gpufleet.mig.node_gpu_info) returns them. V(null) where the API was not asked. Pods
        are then known by their UID only, and a change of the host is blocked.
    type: list
    elements: dict
seealso:
  - module: gpufleet.mig.pod_devices_info
  - module: gpufleet.mig.node_gpu_info
  - plugin: gpufleet.mig.affected
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Who holds the instances of this host?
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.holders(devices, shown.nodes[inventory_hostname].pods) }}"
"""

RETURN = r"""
_value:
  description: Who holds what.
  type: dict
  contains:
    devices:
      description:
        - Every GPU and every compute instance by its UUID, with C(gpu) (the index), C(profile), C(start),
          C(compute_instance), C(ci_id), C(pods) (UIDs) and C(processes). C(profile) is V(null) for a whole GPU.
        - A process has C(pid), C(name), C(pod_uid) and C(where), which is V(pod), V(host), V(unknown), or V(null) in no
          cluster.
      type: dict
    pods:
      description:
        - The pods that hold something by their UID, with C(uid), C(namespace), C(name), C(owner), C(daemonset),
          C(devices), C(containers) and C(listed), which is V(false) where the API was not asked.
      type: dict
    disagreements:
      description:
        - What the witnesses do not agree on, each with C(kind), C(message), C(gpu), C(uuid), C(pod_uid), C(pid) and
          C(blocks), which is V(all) (any change of the host), V(device) (one of that device) or V(nothing).
        - C(kind) is V(checkpoint) (it could not be read), V(api) (it was not asked), V(stale) (an entry of a pod that
          has ended), V(dead) (a pod holds what does not exist), V(no_entry) (a pod asks for more than the checkpoint
          has for it), V(not_given) (a process of a pod that was not given the device), V(host_process),
          V(unknown_process) or V(unseen) (in use, and NVML names no process).
      type: list
      elements: dict
    complete:
      description: No disagreement blocks anything.
      type: bool
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _holders


def holders(gpus: Any, devices: Any = None, pods: Any = None) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.holders works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    if devices is not None and not (isinstance(devices, Mapping) and {"checkpoint", "processes"} <= set(devices)):
        raise AnsibleFilterError("gpufleet.mig.holders takes as devices what gpufleet.mig.pod_devices_info returns.")
    if pods is not None and not (isinstance(pods, list) and all("kubelet_uid" in pod for pod in pods)):
        raise AnsibleFilterError("gpufleet.mig.holders takes as pods the pods of gpufleet.mig.node_gpu_info.")
    return _holders.holders(gpus, devices, pods)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"holders": holders}
