# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a host has to the driver that it should have, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: driver_plan
short_description: What has to change so that a host has its driver
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Compares what M(gpufleet.mig.gpu_host_info) read with what is wanted, and names the steps of the role
    P(gpufleet.mig.driver#role) that are needed, or the reason why the host cannot have this driver.
positional: wanted
options:
  _input:
    description: What M(gpufleet.mig.gpu_host_info) returned.
    type: dict
    required: true
  wanted:
    description:
      - C(version) (a branch or a whole version), C(kernel_modules), C(signed), C(packages), C(headers), C(units), and
        C(files), a list of step, path and text. C(minimum_only) judges the driver that is there, C(drained) says that a
        loaded one may be replaced at once, C(reboots) V(false) that the host may not reboot.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Is the driver that the image brought new enough for MIG?
  ansible.builtin.debug:
    msg: "{{ (host | gpufleet.mig.driver_plan({'minimum_only': true, 'packages': []})).reason }}"
"""

RETURN = r"""
_value:
  description:
    - C(reason) (a sentence where it cannot be, otherwise V(null)), C(changes) (steps that are needed, in their order),
      C(packages), and C(reboot) (a module that has to go is loaded).
    - C(loaded) and C(wanted) have C(version) and C(kernel_modules) of either driver, C(loaded) is V(null) where none
      is.
    - C(replaces) says that a loaded driver goes, C(waits) that this is for the turn of the host's node in a roll-out,
      because its GPU pods have to go first. C(stops) is a sentence where the host would have to reboot and may not.
  type: dict
  sample:
    reason: null
    changes: [packages, units, reboot]
    packages: [nvidia-driver-cuda]
    reboot: true
    loaded: {version: 575.57.08, kernel_modules: open}
    wanted: {version: "580", kernel_modules: open}
    replaces: true
    waits: true
    stops: null
"""

from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils._driver_plan import plan


def driver_plan(host: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """See DOCUMENTATION."""
    return plan(host, wanted)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"driver_plan": driver_plan}
