#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mig_info: the GPUs of a host and how they are partitioned."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mig_info
short_description: Read the GPUs of a host and their MIG instances
version_added: "0.1.0"
description:
  - Reads all GPUs of the host in one call through NVML, with MIG mode, possible profiles and their places, GPU
    instances, compute instances and the processes that use them.
  - Works for any user. What needs privilege (the places of instances, and GPU instances without a compute instance) is
    then missing, and RV(complete) is false.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  pod_devices:
    description: Also read to which pods the kubelet of this host gave its devices. Needs root.
    type: bool
    default: false
  kubelet_dir:
    description:
      - Folder of the kubelet, which has C(device-plugins/kubelet_internal_checkpoint).
      - By default that of kubeadm, k3s, RKE2, k0s or MicroK8s, whichever is there.
    type: path
  metrics:
    description: Folder of node_exporter's textfile collector. Nothing is written; a warning says where it is missing.
    type: path
  files:
    description: Files whose digests are wanted too, so that a role needs no further look at the host.
    type: list
    elements: path
    default: []
extends_documentation_fragment:
  - gpufleet.mig.mig_host
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.mig_layout
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  become: true
  register: host

- name: Show which instance is busy
  ansible.builtin.debug:
    msg: "GPU {{ item.0.index }}: {{ item.1.profile }} at {{ item.1.start }}"
  loop: "{{ host.gpus | subelements('instances') | selectattr('1.busy') }}"
"""

RETURN = r"""
gpus:
  description: All GPUs, by index.
  returned: success
  type: list
  elements: dict
  contains:
    index: {description: NVML's index of the GPU., type: int, returned: always, sample: 0}
    uuid: {description: UUID of the GPU., type: str, returned: always}
    pci_bus_id: {description: PCI address as NVML writes it., type: str, returned: always, sample: "00000000:07:00.0"}
    pci_device_id: {description: PCI device and vendor id., type: str, returned: always, sample: "0x233010DE"}
    minor: {description: Minor number of its device node., type: int, returned: always, sample: 0}
    name: {description: Name of the model., type: str, returned: always, sample: NVIDIA H100 80GB HBM3}
    architecture: {description: Architecture in lower case., type: str, returned: always, sample: hopper}
    compute_capability: {description: CUDA compute capability., type: str, returned: always, sample: "9.0"}
    memory_mib: {description: Memory of the board in MiB., type: int, returned: always, sample: 81559}
    mig_mode:
      description: C(current) and C(pending), each V(enabled), V(disabled) or V(unsupported).
      type: dict
      returned: always
      sample: {current: enabled, pending: enabled}
    resetless_mode_change: {description: The mode changes without a reset of the GPU., type: bool, returned: always}
    profiles:
      description:
        - GPU-instance profiles that NVML lists now, with the memory slices that each takes (C(size)) and where it can
          start (C(starts)). A GPU of the Ampere generation lists none while MIG is off.
      type: list
      elements: dict
      returned: always
    instances:
      description: GPU instances, by their first memory slice.
      type: list
      elements: dict
      returned: always
      sample:
        - profile: 1g.10gb
          start: 0
          size: 1
          gi_id: 9
          busy: false
          compute_instances:
            - profile: 1g.10gb
              ci_id: 0
              uuid: MIG-5bb9bd5c-5ce9-5b0c-9d8a-0d3c0ef4a6d1
              start: 0
              size: 1
              multiprocessors: 16
              processes: [{pid: 4242, name: python}]
    processes: {description: Processes that use the whole GPU., type: list, elements: dict, returned: always}
host:
  description:
    - The host, with C(driver_version), C(cuda_version), C(machine), C(gpu_mode), C(systemd) and C(fabric_manager),
      whether NVIDIA's Fabric Manager runs, V(null) on a host without NVSwitches.
  returned: success
  type: dict
  sample: {driver_version: 580.82.07, cuda_version: "13.0", machine: DGXA100, gpu_mode: compute, systemd: true}
files:
  description: The SHA-256 of each file of O(files), V(null) where it is not there.
  returned: success
  type: dict
pod_devices:
  description: What M(gpufleet.mig.pod_devices_info) returns, C(checkpoint) and C(processes).
  returned: when O(pod_devices) is true
  type: dict
toolkit_open:
  description:
    - NVIDIA's container runtime gives an unprivileged container every GPU that its C(NVIDIA_VISIBLE_DEVICES) names,
      requested or not, by C(/etc/nvidia-container-runtime/config.toml). That is the toolkit's own default.
    - V(null) on a host without the toolkit.
  returned: success
  type: bool
complete:
  description: All could be read. V(false) where this user may not see all of it.
  returned: success
  type: bool
missing:
  description: What could not be read, empty where RV(complete) is true.
  returned: success
  type: list
  elements: str
pynvml_missing:
  description: The host's Python has no C(pynvml), so NVML could not be asked.
  returned: when the module fails because of that
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _host, _metrics, _pod_devices, _toolkit
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_reader import read_host
from ansible_collections.gpufleet.mig.plugins.module_utils._nvml import Nvml

ARGUMENT_SPEC: dict[str, Any] = {
    "pod_devices": {"type": "bool", "default": False},
    "kubelet_dir": {"type": "path"},
    "metrics": {"type": "path"},
    "files": {"type": "list", "elements": "path", "default": []},
}

UNSEEN = [
    "places of GPU instances, and GPU instances without compute instances: only root may read them (become: true)"
]


def main() -> None:
    """Read and report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        with Nvml.open() as nvml:
            reading = read_host(nvml)
        extra = {}
        if module.params["pod_devices"]:
            extra["pod_devices"] = _pod_devices.read(reading.gpus, module.params["kubelet_dir"])
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    for sentence in _metrics.missing(module.params["metrics"]):
        module.warn(sentence)
    module.exit_json(
        changed=False,
        gpus=reading.gpus,
        host=reading.host,
        files={path: _host.digest(path) for path in module.params["files"]},
        toolkit_open=_toolkit.is_open(),
        complete=reading.complete,
        missing=[] if reading.complete else UNSEEN,
        **extra,
    )


if __name__ == "__main__":
    main()
