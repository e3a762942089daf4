# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a play share a cluster, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: clusters
short_description: Which cluster each host is a node of
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - One inventory may hold several clusters. Hosts with the same C(mig_kubeconfig) and C(mig_kube_context) are nodes of
    one; hosts with C(mig_kubernetes=false) are in none.
  - P(gpufleet.mig.same_cluster#filter) goes by the fact C(gpufleet_clusters) of localhost where a play has set it to
    this once. Otherwise it looks at the variables of all hosts, each time, which is slow on a large fleet.
positional: hostvars
options:
  _input:
    description: Inventory names, usually C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  hostvars:
    description: C(hostvars).
    type: dict
    required: true
seealso:
  - plugin: gpufleet.mig.same_cluster
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See once which hosts share a cluster
  ansible.builtin.set_fact:
    gpufleet_clusters: "{{ ansible_play_hosts | gpufleet.mig.clusters(hostvars) }}"
  delegate_to: localhost
  delegate_facts: true
  run_once: true
"""

RETURN = r"""
_value:
  description: Of each host its kubeconfig and context, as a list of two; an empty list for a host in no cluster.
  type: dict
  sample: {gpu-01: [/home/ops/prod, ""], gpu-02: [/home/ops/prod, ""], slurm-01: []}
"""

from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import _fleet


def clusters(hosts: list[str], hostvars: Any) -> dict[str, list[str]]:
    """See DOCUMENTATION."""
    return _fleet.clusters(hostvars, hosts)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"clusters": clusters}
