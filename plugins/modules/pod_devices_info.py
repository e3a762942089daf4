#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module pod_devices_info: which pods of a host were given which GPUs and instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_devices_info
short_description: Read which pod was given which GPU or MIG instance
version_added: "0.1.0"
description:
  - Reads the checkpoint in which the kubelet of this host keeps the devices that it gave to containers, and for every
    process that NVML knows on a GPU, the pod that it runs in. Nothing has to be installed on the host.
  - The checkpoint knows pods by their UID only, and keeps those that have ended for a while. The filter
    P(gpufleet.mig.holders#filter) crosses it with the pods that the Kubernetes API lists and with NVML's processes.
  - A checkpoint that is missing or cannot be read is no failure, but is told in RV(checkpoint.state). Who holds what
    is then unknown; it does not mean that nobody holds anything.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  kubelet_dir:
    description:
      - Folder of the kubelet, in which C(device-plugins/kubelet_internal_checkpoint) lies.
      - Without it the usual folders are looked into, C(/var/lib/kubelet) (also of k3s and RKE2),
        C(/var/lib/rancher/k3s/agent/kubelet), C(/var/lib/rancher/rke2/agent/kubelet), C(/var/lib/k0s/kubelet) and
        C(/var/snap/microk8s/common/var/lib/kubelet). More than one checkpoint in there is an error state.
    type: path
  gpus:
    description:
      - The GPUs of the host as RV(gpufleet.mig.mig_info#module:gpus), whose processes are looked up.
      - Without it they are read from NVML first; then this module needs what M(gpufleet.mig.mig_info) needs.
    type: list
    elements: dict
  verify_checksum:
    description:
      - Compare the checkpoint's checksum, as the kubelet itself does. One that differs is an error state.
      - V(false) is for a kubelet that counts it in another way than versions 1.20 to 1.36 do.
    type: bool
    default: true
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
requirements:
  - python >= 3.9
  - root, to read the checkpoint
seealso:
  - module: gpufleet.mig.mig_info
  - plugin: gpufleet.mig.holders
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  become: true
  register: host

- name: Which pod was given what?
  gpufleet.mig.pod_devices_info:
    gpus: "{{ host.gpus }}"
  become: true
  register: devices

- name: Stop where that cannot be known
  ansible.builtin.assert:
    that: devices.checkpoint.state == 'read'
    fail_msg: "{{ devices.checkpoint.error }}"
"""

RETURN = r"""
checkpoint:
  description: The kubelet's checkpoint.
  returned: success
  type: dict
  contains:
    state:
      description:
        - V(read), V(missing), V(unreadable), V(corrupt) or V(ambiguous). In all but V(read) it is unknown which pod
          holds what.
      type: str
      returned: always
      sample: read
    error: {description: One sentence that says why it is not read., type: str, returned: always}
    path: {description: The file. Null where none was found., type: str, returned: always}
    entries:
      description:
        - The devices of each container and resource, of every device plugin, as the plugins registered them. A replica
          of a shared device ends in C(::) and a number. Null where the checkpoint is not read.
      type: list
      elements: dict
      returned: always
      sample:
        - pod_uid: 0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0001
          container: train
          resource: nvidia.com/mig-1g.10gb
          devices: [MIG-5bb9bd5c-5ce9-5b0c-9d8a-0d3c0ef4a6d1]
    registered:
      description: The healthy devices of each resource. Null where the checkpoint is not read.
      type: dict
      returned: always
      sample: {nvidia.com/mig-1g.10gb: [MIG-5bb9bd5c-5ce9-5b0c-9d8a-0d3c0ef4a6d1]}
processes:
  description: Whose every process on a GPU is, by pid.
  returned: success
  type: list
  elements: dict
  contains:
    pid: {description: Process id on the host., type: int, returned: always, sample: 4242}
    where:
      description: V(pod), V(host) (in no pod) or V(unknown) (it has ended, or is of another PID namespace).
      type: str
      returned: always
      sample: pod
    pod_uid: {description: UID of its pod as the kubelet has it., type: str, returned: always}
    container_id: {description: Id of its container., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _pod_devices
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_reader import read_host
from ansible_collections.gpufleet.mig.plugins.module_utils._nvml import Nvml

ARGUMENT_SPEC: dict[str, Any] = {
    "kubelet_dir": {"type": "path"},
    "gpus": {"type": "list", "elements": "dict"},
    "verify_checksum": {"type": "bool", "default": True},
}


def main() -> None:
    """Read and report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    gpus = params["gpus"]
    try:
        if gpus is None:
            with Nvml.open() as nvml:
                gpus = read_host(nvml).gpus
        found = _pod_devices.read(gpus, params["kubelet_dir"], verify=params["verify_checksum"])
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        module.fail_json(msg=f"The option gpus is not a list of GPUs as mig_info returns it: {error!r}.")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
