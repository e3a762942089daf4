# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a fleet as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_table
short_description: A table of nodes, GPUs, instances and what Kubernetes offers
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Draws one line per GPU with its mode and the places of its instances, and under each node what Kubernetes offers
    there and whether it was verified.
options:
  _input:
    description:
      - Reports as the role P(gpufleet.mig.verify#role) makes them, each with C(host), C(strategy), C(gpus) (as
        M(gpufleet.mig.mig_info) returns them), C(allocatable) (V(null) outside a cluster) and C(problems).
    type: list
    elements: dict
    required: true
seealso:
  - plugin: gpufleet.mig.slice_map
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the fleet
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars, 'verify_report') | list | gpufleet.mig.fleet_table }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _fleet

NEEDED = {"host", "strategy", "gpus"}


def fleet_table(reports: Any) -> str:
    """See DOCUMENTATION. AnsibleFilterError where something else than reports is given."""
    if not isinstance(reports, list) or not all(hasattr(one, "keys") and set(one) >= NEEDED for one in reports):
        raise AnsibleFilterError("gpufleet.mig.fleet_table works on a list of reports with host, strategy and gpus.")
    return _fleet.fleet_table(reports)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_table": fleet_table}
