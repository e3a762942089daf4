# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
short_description: What stands now on the GPUs of a fleet, as data and as Markdown
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Puts together what was read of many hosts, which is the slice map of each GPU, which pods and processes hold which
    instance, the drift from the inventory, and totals of the fleet.
positional: unreachable
options:
  _input:
    description:
      - Readings of the hosts, as the playbook C(gpufleet.mig.report) makes them, each with all of the keys C(host),
        C(node), C(strategy), C(layout), C(layouts), C(unlisted), C(gpus), C(driver_version), C(devices), C(shown) and
        C(error).
      - C(gpus) is what M(gpufleet.mig.mig_info) returns, V(null) where the host could not be read, and C(error) then
        says why. C(devices) is what M(gpufleet.mig.pod_devices_info) returns, V(null) in no cluster. C(shown) is the
        node as M(gpufleet.mig.node_gpu_info) returns it with its pods, V(null) where the API was not asked.
    type: list
    elements: dict
    required: true
  unreachable:
    description: Names of hosts that could not be reached; the report lists them.
    type: list
    elements: str
    default: []
seealso:
  - plugin: gpufleet.mig.holders
    plugin_type: filter
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the fleet
  ansible.builtin.debug:
    msg: "{{ (readings | gpufleet.mig.report).text.splitlines() }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    hosts:
      description:
        - Every host by its name, with C(host), C(node), C(error), C(strategy), C(driver_version), C(ready),
          C(schedulable), C(allocatable), C(gpus), C(pods), C(disagreements) and C(drift).
        - A GPU has C(index), C(uuid), C(name), C(mig_mode), C(slice_map), C(slices) (C(total) and C(free)),
          C(instances), and for the whole GPU C(use), C(pods) and C(processes). The compute instances of an instance
          have these too.
        - C(use) is V(free), V(held) or V(unknown). Only what all witnesses agree on is V(free).
        - C(drift) has C(state), which is V(none), V(drift), V(impossible), V(invalid) or V(unmanaged) (no layout in the
          inventory), C(reason), and C(gpus) with slice maps before and after.
      type: list
      elements: dict
    totals:
      description:
        - C(hosts), C(unread), C(drifted), C(gpus), C(mig_gpus), C(slices), C(instances) per profile and C(resources),
          which is allocatable per key, V(null) where no API was asked.
      type: dict
    text:
      description: All of it as Markdown.
      type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _report

NEEDED = set(_report.unread(""))


def report(readings: Any, unreachable: Any = ()) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError where something else than readings is given."""
    if not isinstance(readings, list) or not all(isinstance(one, Mapping) and set(one) >= NEEDED for one in readings):
        raise AnsibleFilterError(
            f"gpufleet.mig.report works on a list of readings with the keys {', '.join(sorted(NEEDED))}."
        )
    return _report.report([*readings, *map(_report.unread, unreachable)])


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"report": report}
