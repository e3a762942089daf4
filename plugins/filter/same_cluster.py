# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a play share a cluster, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: same_cluster
short_description: Hosts that are nodes of the same cluster
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - One inventory may hold several clusters. Hosts with the same C(mig_kubeconfig) and C(mig_kube_context) are nodes of
    one; hosts with C(mig_kubernetes=false) are in none.
  - Roles ask the API of a cluster once for all its nodes, from the first host of this list.
  - The fact C(gpufleet_clusters) of localhost, where a play has set it with P(gpufleet.mig.clusters#filter), spares
    looking at the variables of all hosts again.
positional: host, hostvars
options:
  _input:
    description: Inventory names to choose from, usually C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  host:
    description: Inventory name of a host of the cluster.
    type: str
    required: true
  hostvars:
    description: C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say once per cluster which nodes it has
  ansible.builtin.debug:
    msg: "{{ peers }}"
  when: peers and inventory_hostname == peers[0]
  vars:
    peers: "{{ ansible_play_hosts | gpufleet.mig.same_cluster(inventory_hostname, hostvars) }}"
"""

RETURN = r"""
_value:
  description: The hosts of the cluster in the order of the input; empty for a host in no cluster.
  type: list
  elements: str
"""

from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import _fleet


def same_cluster(hosts: list[str], host: str, hostvars: Any) -> list[str]:
    """See DOCUMENTATION."""
    return _fleet.same_cluster(hostvars, hosts, host)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"same_cluster": same_cluster}
