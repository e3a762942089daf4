# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a whole fleet as a filter: one call for all hosts, nothing is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_plan
short_description: What the inventory would change on a whole fleet
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Plans every host of a fleet in one call, predicts what Kubernetes will show of it, and puts together totals,
    refusals and waves. Nothing is touched, and no GPU, driver or cluster is needed.
  - What is wrong with one host's variables refuses that host and does not stop the others' plan.
  - The playbook C(gpufleet.mig.plan) gathers the input and shows the result.
positional: waves, max_unavailable, clusters, min_available, topology_key
options:
  _input:
    description:
      - What is known of each host, a mapping with C(host) (its name) and what follows, all of it optional.
      - C(node) is the name of its Kubernetes node, C(kubernetes) V(false) for a host in no cluster.
      - C(gpus) and C(facts) are RV(gpufleet.mig.mig_info#module:gpus) and RV(gpufleet.mig.mig_info#module:host) of a
        host that was read; C(unread) says why one was not.
      - C(mig_gpus) describes the GPUs of a host that was not read, a list of mappings with C(model) (a key or name of
        the product facts), C(count), and what stands there with C(mig) (V(enabled) or V(disabled)) and C(instances).
      - C(boards) is RV(gpufleet.mig.gpu_host_info#module:gpus) of a host that has no driver yet.
      - C(layout), C(layouts), C(unlisted_gpus), C(mode_changes), C(strategy) and C(plugin_config) are the inventory's
        variables of these names without their prefix.
      - C(cluster) names the cluster that was asked about its node, as in O(clusters). C(feature_discovery) V(false)
        leaves labels out. C(invalid) refuses the host with this sentence.
      - C(max_destroy) is how many instances a run over the whole fleet may destroy; the smallest of all hosts counts.
      - C(driver) is what P(gpufleet.mig.driver_plan#filter) says of a host that was read, where the inventory brings
        its driver.
      - C(pod_devices) is RV(gpufleet.mig.mig_info#module:pod_devices), which pods the kubelet gave which devices.
    type: list
    elements: dict
    required: true
  waves:
    description:
      - Gates over the number of hosts done in all, each a number or a share. Only hosts that change are counted. What
        lies beyond the last gate is a wave of its own.
    type: list
    elements: raw
    default: [1, "10%", "25%", "100%"]
  max_unavailable:
    description: How many hosts of a wave may be out at a time, a number or a share of the hosts of their cluster.
    type: raw
    default: 1
  clusters:
    description:
      - What clusters show now, each a pair of its name (the list of texts that hosts have as C(cluster)) and what
        M(gpufleet.mig.node_gpu_info) returned. Where that has no C(nodes), its C(msg) becomes a note.
    type: list
    elements: list
    default: []
  min_available:
    description:
      - What each cluster must offer at any time, a count per C(nvidia.com) resource. Hosts go in an order that holds
        it, that of the input where it does.
    type: dict
    default: {}
  topology_key:
    description:
      - A label of the nodes. Hosts that are out together, and single ones that follow each other, are of different
        zones where that can be; it takes what M(gpufleet.mig.node_gpu_info) returned with the same key.
    type: str
seealso:
  - plugin: gpufleet.mig.plan
    plugin_type: filter
  - plugin: gpufleet.mig.plan_document
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Plan two hosts that do not exist yet
  ansible.builtin.debug:
    msg: "{{ hosts | gpufleet.mig.fleet_plan | gpufleet.mig.plan_document }}"
  vars:
    hosts:
      - host: gpu-01
        mig_gpus: [{model: A100-SXM4-80GB, count: 8}]
        layout: all-balanced
      - host: gpu-02
        mig_gpus: [{model: h100-sxm5-80gb, count: 8, instances: {1g.10gb: 7}}]
        layout: [{gpus: "0-3", instances: {3g.40gb: 2}}, {gpus: rest, preset: all-1g.10gb}]
"""

RETURN = r"""
_value:
  description: The plan of the fleet. It is plain data; as JSON it is what C(gpufleet.mig.plan) writes to C(plan.json).
  type: dict
  contains:
    drift:
      description: Whether any host is in another state than V(unchanged).
      type: bool
    hosts:
      description: The report on each host, in the order of the input.
      type: list
      elements: dict
      contains:
        host:
          description: Name of the host.
          type: str
        node:
          description: Name of its node.
          type: str
        status:
          description:
            - V(unchanged) where all is as wanted, V(changes) where GPUs change, V(blocked) where they change and
              something uses what has to go, V(unpublished) where only the cluster differs, V(refused), V(not_planned).
          type: str
        reason:
          description: One sentence why it is refused, not planned or unpublished, else V(null).
          type: str
        source:
          description:
            - Where the GPUs are known from, V(hardware), V(inventory) or V(bus); V(null) where they are not known.
          type: str
        notes:
          description: Sentences beside the plan.
          type: list
          elements: str
        strategy:
          description: The wanted MIG strategy.
          type: str
        driver:
          description:
            - What is done about the driver, V(null) where nothing is. C(from) and C(to) have C(version) and
              C(kernel_modules), C(from) is V(null) where none is loaded; C(steps) are those of
              P(gpufleet.mig.driver_plan#filter).
            - C(in_turn) V(true) where a loaded driver is replaced in the turn of the node, V(false) where it comes at
              once. C(reboot) is V(null) where that depends on the version that the repository has.
          type: dict
        gpus:
          description:
            - The plan of each GPU as RV(gpufleet.mig.plan#filter:_value.gpus), and beside it C(name), C(changes),
              C(map) (the slices C(before) and C(after)) and C(by_hand) (the nvidia-smi commands in their order, each
              with C(command) and C(note)). Of a refused host as it stands.
          type: list
          elements: dict
        instances:
          description: How many GPU instances C(keep), C(destroy), C(create) count.
          type: dict
        compute_instances:
          description: How many compute instances go and come inside GPU instances that stay.
          type: dict
        pods:
          description:
            - Pods that must move, as namespace/name (by UID where the cluster was not asked), as far as C(pod_devices)
              of the input says who holds what. What is not sure about it is in C(notes).
          type: list
          elements: str
        resources:
          description:
            - Per resource key what is allocatable C(before) and C(after) (both predicted) and C(now) (what the cluster
              shows, V(null) where it was not asked). V(null) outside a cluster.
          type: dict
        labels:
          description: Labels that change, each with C(before) and C(after), V(null) where it is not there.
          type: dict
    fleet:
      description:
        - Totals with C(hosts) (per state), C(gpus), C(instances), C(compute_instances), C(mode_changes), C(resets),
          C(reboots), C(drivers) (C(in_turn) and C(at_once)), C(blockers) and C(resources). What is refused counts as it
          stands.
      type: dict
    destroy:
      description:
        - What goes, with C(count), C(most) (the limit, V(null) where none is set), C(stops) (whether it is over that)
          and C(instances), a line for each.
      type: dict
    refused:
      description: Hosts that are refused, each with C(host) and C(reason).
      type: list
      elements: dict
    not_planned:
      description: Hosts of which nothing is known, each with C(host) and C(reason).
      type: list
      elements: dict
    waves:
      description:
        - C(waves), one cluster after the other, each with C(number), C(hosts) in their order, C(out) (how many of them
          at a time) and C(left), what new pods of the cluster can count on per resource key while it is worked on, at
          worst.
        - C(refused) has a sentence for each cluster in which no order holds O(min_available), or no host
          that changes carries O(topology_key).
      type: dict
"""

import gc
from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._fleet_plan import plan_fleet
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import DEFAULT_GATES

LEAVES = (str, int, bool, float, type(None))


def fleet_plan(
    hosts: Any,
    waves: Any = DEFAULT_GATES,
    max_unavailable: Any = 1,
    clusters: Any = (),
    min_available: Any = None,
    topology_key: Any = None,
) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError carries the sentence for input or settings that cannot be read."""
    if not isinstance(hosts, list) or not all(isinstance(host, Mapping) and "host" in host for host in hosts):
        raise AnsibleFilterError("gpufleet.mig.fleet_plan works on a list of mappings that each have the key host.")
    collecting = gc.isenabled()
    gc.disable()  # the plan of a large fleet is millions of objects that all stay: looking for garbage takes a quarter
    try:
        answers = _plain(list(clusters))
        return plan_fleet(
            _plain(hosts),
            waves=waves,
            max_unavailable=max_unavailable,
            min_available=_plain(min_available),
            topology_key=str(topology_key) if topology_key else None,
            clusters=answers,
        )
    except MigError as error:
        raise AnsibleFilterError(f"gpufleet.mig.fleet_plan: {error}") from None
    finally:
        if collecting:
            gc.enable()


def _plain(value: Any) -> Any:
    """The same data without Ansible's lazy containers, which look at every access whether there is a template in it."""
    if isinstance(value, dict):
        return {key: item if type(item) in LEAVES else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item if type(item) in LEAVES else _plain(item) for item in value]
    return value


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_plan": fleet_plan}
