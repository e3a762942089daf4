#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module gpu_host_info: a GPU host before and beside its driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_host_info
short_description: Read what a GPU host is before and beside its driver
version_added: "0.1.0"
description:
  - Reads the distribution, NVIDIA's boards on the PCI bus, kernel modules, Secure Boot, and of packages, files and
    units those that are asked for, in one call. Needs neither the driver nor C(pynvml).
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  packages:
    description: Shell patterns; installed packages whose names match are returned.
    type: list
    elements: str
    default: []
  files:
    description: Paths of small text files; their contents are returned.
    type: list
    elements: path
    default: []
  units:
    description: Names of systemd units; those that are there are returned.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.mig_info
"""

EXAMPLES = r"""
- name: Look at a host that may have no driver yet
  gpufleet.mig.gpu_host_info:
    packages: ["nvidia-*"]
  become: true
  register: host

- name: Show the driver that is loaded
  ansible.builtin.debug:
    var: host.loaded
"""

RETURN = r"""
distribution:
  description: C(id), C(version) and C(name), and C(family), whose packages it takes.
  returned: success
  type: dict
  sample: {id: debian, version: "12", name: Debian GNU/Linux 12 (bookworm), family: debian}
kernel: {description: Release of the running kernel., returned: success, type: str}
architecture: {description: Machine name of the kernel., returned: success, type: str, sample: x86_64}
headers: {description: The running kernel's headers are installed., returned: success, type: bool}
gpus:
  description: NVIDIA GPUs on the PCI bus.
  returned: success
  type: list
  elements: dict
  sample: [{pci_bus_id: "0000:07:00.0", pci_device_id: "0x20B010DE"}]
nvswitches: {description: Number of NVSwitches on the PCI bus., returned: success, type: int}
loaded:
  description: Version and flavour of the driver whose kernel module is loaded, V(null) where none is.
  returned: success
  type: dict
  sample: {version: 580.95.05, kernel_modules: open}
modules:
  description: Loaded kernel modules for these GPUs, with the number of their users.
  returned: success
  type: dict
  sample: {nvidia: 2, nvidia_uvm: 0}
display: {description: Programs that drive a display with these GPUs., returned: success, type: list, elements: str}
secure_boot: {description: Secure Boot is on., returned: success, type: bool}
signed: {description: "Under Secure Boot the kernel would take the driver's module.", returned: success, type: bool}
packages:
  description: Installed packages by name, with C(version) and C(held).
  returned: success
  type: dict
  sample: {nvidia-driver-cuda: {version: 580.95.05-1, held: true}}
initramfs_stale:
  description: One of O(files) that is in C(/etc/modprobe.d) is newer than the running kernel's initramfs.
  returned: success
  type: bool
files: {description: "Contents by path, V(null) for a file that is not there.", returned: success, type: dict}
units:
  description: Units by name, with C(name), C(active), C(enabled) and C(pids).
  returned: success
  type: dict
  sample:
    nvidia-persistenced.service: {name: nvidia-persistenced.service, active: true, enabled: true, pids: [812]}
container_runtimes:
  description:
    - Kind (V(containerd), V(crio), V(docker), V(k3s) or V(rke2)) and unit of each container runtime among O(units), the
      one in use first.
  returned: success
  type: list
  elements: dict
  sample: [{kind: containerd, unit: containerd.service}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_host import read


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **read(module.params["packages"], module.params["files"], module.params["units"]))


if __name__ == "__main__":
    main()
