# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that the kubelet gives out and that exist no more, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stale_devices
short_description: Devices that the kubelet gives out and that exist no more
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - The device plugin enumerates GPUs only when it starts. After a change that it was not restarted for, the counts of a
    node may look right while pods are admitted with instances that are gone.
positional: pod_devices
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus).
    type: list
    elements: dict
    required: true
  pod_devices:
    description: RV(gpufleet.mig.mig_info#module:pod_devices) of the same host. Empty where there is none.
    type: dict
    default: {}
seealso:
  - module: gpufleet.mig.pod_devices_info
"""

EXAMPLES = r"""
- name: Read GPUs and what the kubelet knows of them
  gpufleet.mig.mig_info:
    pod_devices: true
  become: true
  register: host

- name: Refuse to go on with a device plugin that looks at the past
  ansible.builtin.assert:
    that: host.gpus | gpufleet.mig.stale_devices(host.pod_devices) | length == 0
"""

RETURN = r"""
_value:
  description: One sentence per device. Empty where all exist, and where the kubelet's checkpoint could not be read.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils._holders import stale


def stale_devices(gpus: Any, pod_devices: Mapping[str, Any] | None = None) -> list[str]:
    """See DOCUMENTATION. AnsibleFilterError where something else than GPUs is given."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.stale_devices works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    return stale(gpus, ((pod_devices or {}).get("checkpoint") or {}).get("registered"))


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stale_devices": stale_devices}
