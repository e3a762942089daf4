# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would destroy over all its hosts, against mig_max_destroy, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: destroy_guard
short_description: Instances that a run would destroy, and whether they are too many
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Lists every GPU instance that the plans of the hosts (their fact C(mig_plan)) destroy, and every compute instance
    that goes inside a GPU instance which stays.
  - A guard against slips in an inventory. The limit C(mig_max_destroy) is for the whole run; where hosts have different
    ones the smallest counts.
positional: hostvars
options:
  _input:
    description: Inventory names, usually C(ansible_play_hosts). Hosts without a plan count nothing.
    type: list
    elements: str
    required: true
  hostvars:
    description: C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Stop before more goes than is allowed
  ansible.builtin.assert:
    that: not guard.stops
    fail_msg: "{{ guard.count }} instances would go: {{ guard.instances | join(', ') }}"
  run_once: true
  vars:
    guard: "{{ ansible_play_hosts | gpufleet.mig.destroy_guard(hostvars) }}"
"""

RETURN = r"""
_value:
  description:
    - C(count), C(most) (the limit, V(null) where no host has one), C(stops) (whether C(count) is over it) and
      C(instances), a line for each that says host, GPU, profile, place, and whether it is in use.
  type: dict
  sample: {count: 1, most: 0, stops: true, instances: ["gpu-01 GPU 0: 1g.10gb at 2 (in use)"]}
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._fleet_plan import guard


def destroy_guard(hosts: list[str], hostvars: Any) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError for a limit that is no number."""
    variables = {host: hostvars[host] for host in hosts}
    plans = {host: of_host["mig_plan"] for host, of_host in variables.items() if "mig_plan" in of_host}
    try:
        return guard(plans, variables)
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"destroy_guard": destroy_guard}
