#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module node_maintenance: take GPU nodes out of service for a change, and give them back as they were found."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_maintenance
short_description: Cordon nodes, evict pods, look again before a change, give nodes back as they were found
version_added: "0.1.0"
description:
  - The controller's side of changing the GPUs of Kubernetes nodes. All nodes of a call are handled at the same time;
    one that fails does not keep the others from being finished.
  - The cordon, whose run it is and whether the node was schedulable before are written in one patch that fails where
    somebody else wrote in between. A cordon that a crashed run left is recognised and given back later; a node that a
    person cordoned stays cordoned.
  - Pods go through the Eviction API, by uid, with the filters of C(kubectl drain). Everything that stands in the way is
    listed before the first eviction, and then no pod is evicted.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  state:
    description:
      - V(cordoned) makes the node unschedulable and ours.
      - V(evicted) does that too where it is not done yet, then evicts pods and waits until they are gone. Where that
        fails, the node is given back at once.
      - V(checked) is the last look before a step that cannot be taken back. It fails unless the node is cordoned by
        this run, the lock is still ours and no GPU pod is on the node except those of C(keep).
      - V(marked) writes O(phase) and C(target) on the node, and lets DaemonSet pods come back that O(evict_daemonsets)
        kept away.
      - V(restored) leaves the node as it was found and removes our marks, except a O(phase) and C(target) given here.
        It writes nothing where nothing of ours is on the node.
      - V(failed) keeps the node cordoned, with label C(gpufleet.io/mig-state=failed), an annotation and an Event that
        say why and what to do next.
      - V(preflight) asks the API whether this user has every right that a roll-out needs.
    type: str
    choices: [cordoned, evicted, checked, marked, restored, failed, preflight]
    required: true
  nodes:
    description:
      - What is wanted, per node name. An entry may be empty.
      - C(pods) are the uids of the pods that must go (state V(evicted)), C(keep) those of the GPU pods that may stay
        (state V(checked)).
      - C(target) is a digest of the layout that is made, kept in the annotation C(gpufleet.io/target).
      - C(before) is what stands when the change begins, a mapping with C(layout) (entries as M(gpufleet.mig.mig_layout)
        takes them) and C(strategy) (state V(checked), or V(restored) for a node that was not taken out). C(made) is
        what the change made, in the same form (state V(restored)). They become the annotations
        C(gpufleet.io/previous), from which the playbook C(gpufleet.mig.rollback) works, and C(gpufleet.io/layout).
      - C(reason) and C(next) say why a node failed and which command to run (state V(failed)).
      - Needed for every state except V(preflight).
    type: dict
  run:
    description: Id of the run. Needed for every state except V(preflight).
    type: str
  phase:
    description: Phase to write into the annotation C(gpufleet.io/phase), in the same patch as the rest.
    type: str
  takeover:
    description:
      - Nodes that GPU operator's mig-manager, NVIDIA's DRA driver or nos manages are refused. With this they are
        switched off on that node first, by the node label that their DaemonSet selects. They stay off.
    type: bool
    default: false
  evict:
    description:
      - V(affected) evicts the pods of C(pods), V(node) every pod that uses a GPU.
      - V(wait) does as V(affected), or as V(node) without C(pods), but lets pods of Jobs finish first, for up to
        O(jobs_timeout).
      - V(none) evicts nothing and fails if any of these pods is there.
    type: str
    choices: [affected, node, wait, none]
    default: affected
  evict_unmanaged:
    description: Also evict pods that no controller brings back.
    type: bool
    default: false
  evict_emptydir:
    description: Also evict pods that have data in an emptyDir volume, which is lost.
    type: bool
    default: false
  evict_daemonsets:
    description:
      - Also delete pods of DaemonSets. The taint C(gpufleet.io/mig-change) keeps their DaemonSet from making them anew
        on the node until state V(marked), V(restored) or V(failed), unless they tolerate every taint.
    type: bool
    default: false
  grace_period:
    description: Seconds that evicted pods get to end, instead of their own.
    type: int
  timeout:
    description: Seconds for the evictions, refusals by PodDisruptionBudgets and the pods' own ending included.
    type: float
    default: 600
  jobs_timeout:
    description: Seconds that V(wait) gives to Jobs before O(timeout) begins.
    type: float
    default: 3600
  jobs_action:
    description: What becomes of Jobs that have not ended by then.
    type: str
    choices: [evict, fail]
    default: evict
  pause:
    description: Seconds between the first two tries of a refused eviction. Later ones grow to ten times that.
    type: float
    default: 1
  clean_failed:
    description:
      - With V(restored), also delete the GPU pods on the node that the kubelet refused (phase C(Failed), reason
        C(UnexpectedAdmissionError)). They never ran, and nothing else removes them.
    type: bool
    default: false
  publishers_namespace:
    description: Namespace of the device plugin, in which V(preflight) asks for rights. An empty string means all.
    type: str
    default: nvidia-device-plugin
  lock_namespace:
    description: Namespace of the roll-out lock, in which V(preflight) asks for rights.
    type: str
    default: kube-system
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: In check mode nobody cordons, so V(checked) only judges nodes that this run has cordoned before.
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.rollout_lock
  - module: gpufleet.mig.node_publishers
"""

EXAMPLES = r"""
- name: Before anything, does the kubeconfig have the rights?
  gpufleet.mig.node_maintenance:
    state: preflight
  delegate_to: localhost
  run_once: true

- name: Nothing new may start on the node
  gpufleet.mig.node_maintenance:
    state: cordoned
    run: "{{ rollout_run_id }}"
    lock: "{{ rollout.lock }}"
    phase: cordoned
    nodes:
      gpu-01: {target: "{{ layout_digest }}"}
  delegate_to: localhost

- name: The pods whose instances go, and only they
  gpufleet.mig.node_maintenance:
    state: evicted
    run: "{{ rollout_run_id }}"
    lock: "{{ rollout.lock }}"
    nodes:
      gpu-01: {pods: ["0b6a0a53-6c38-4a67-a3a6-0b9c5b0a9a11"]}
  register: eviction
  delegate_to: localhost

- name: Directly before the change
  gpufleet.mig.node_maintenance:
    state: checked
    run: "{{ rollout_run_id }}"
    lock: "{{ rollout.lock }}"
    phase: changing
    nodes:
      gpu-01: {keep: "{{ eviction.nodes['gpu-01'].stay | map(attribute='uid') }}"}
  delegate_to: localhost

- name: Give it back as it was found
  gpufleet.mig.node_maintenance:
    state: restored
    run: "{{ rollout_run_id }}"
    lock: "{{ rollout.lock }}"
    phase: done
    nodes:
      gpu-01: {target: "{{ layout_digest }}"}
  delegate_to: localhost
"""

RETURN = r"""
nodes:
  description: What was done (in check mode, what would be done), per node name.
  returned: always
  type: dict
  contains:
    changed: {description: The node or its pods were changed., type: bool, returned: always}
    found_schedulable: {description: The node was schedulable before our cordon., type: bool, returned: always}
    schedulable: {description: The node is schedulable now., type: bool, returned: always}
    evicted: {description: Pods that went; C(name) and C(uid)., type: list, elements: dict, returned: always}
    stay: {description: GPU pods that keep running; C(name) and C(uid)., type: list, elements: dict, returned: always}
    blockers:
      description: What stood in the way.
      type: list
      elements: dict
      returned: always
      sample:
        - kind: pod
          name: shop/web-6d4f
          uid: 0b6a0a53-6c38-4a67-a3a6-0b9c5b0a9a11
          why: budget
          reason: >-
            may not go because of PodDisruptionBudget shop/web (The disruption budget web needs 2 healthy pods and has 2
            currently)
          remedy: add a replica or relax the budget
          budget: web
    taken_over: {description: Controllers that were switched off., type: list, elements: str, returned: always}
    cleaned: {description: Failed pods that were deleted., type: list, elements: dict, returned: always}
    error: {description: Why the node failed; null where it did not., type: str, returned: always}
    seconds: {description: Time spent on the node., type: float, returned: always}
gpufleet:
  description: One entry per node for reports and progress.
  returned: always
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: O(phase) or else O(state)., type: str, returned: always}
    wave: {description: As given., type: int, returned: always}
    digests: {description: C(target) as given; C(before) is not known here., type: dict, returned: always}
    blockers: {description: As in RV(nodes)., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went., type: list, elements: str, returned: always}
    seconds: {description: Time spent on the node., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
missing:
  description: Rights that the user does not have.
  returned: when state is preflight and some are missing
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import (
    _eviction,
    _kube,
    _lock,
    _maintenance,
    _maintenance_data,
    _rights,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

STATES = ["cordoned", "evicted", "checked", "marked", "restored", "failed"]

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "state": {"type": "str", "choices": [*STATES, "preflight"], "required": True},
    "nodes": {"type": "dict"},
    "run": {"type": "str"},
    "phase": {"type": "str"},
    "takeover": {"type": "bool", "default": False},
    "evict": {"type": "str", "choices": ["affected", "node", "wait", "none"], "default": "affected"},
    "evict_unmanaged": {"type": "bool", "default": False},
    "evict_emptydir": {"type": "bool", "default": False},
    "evict_daemonsets": {"type": "bool", "default": False},
    "clean_failed": {"type": "bool", "default": False},
    "grace_period": {"type": "int"},
    "timeout": {"type": "float", "default": 600},
    "jobs_timeout": {"type": "float", "default": 3600},
    "jobs_action": {"type": "str", "choices": ["evict", "fail"], "default": "evict"},
    "pause": {"type": "float", "default": 1},
    "publishers_namespace": {"type": "str", "default": "nvidia-device-plugin"},
    "lock_namespace": {"type": "str", "default": "kube-system"},
}


def main() -> None:
    """Check the wish, work on all nodes, report."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", state, ["run", "nodes"]) for state in STATES],
    )
    params, dry = module.params, module.check_mode
    try:
        wishes = _maintenance_data.check_wishes(params["nodes"] or {})
        if params["state"] == "evicted" and params["evict"] == "affected":
            _require_pods(wishes)
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        if params["state"] == "preflight":
            _rights.require(kube, _rights.needed(params["lock_namespace"], params["publishers_namespace"] or None))
            module.exit_json(changed=False, nodes={}, gpufleet=[])
        lock = _lock.open_keeper(kube, params["lock"], dry=dry)
        reports = _maintenance.Maintenance(kube, _options(params, dry), lock).run(params["state"], wishes)
    except MigError as error:
        module.fail_json(msg=str(error), nodes={}, gpufleet=[], **error.context)
    for sentence in (sentence for report in reports for sentence in report.warnings):
        module.warn(sentence)
    answer = {
        "changed": any(report.changed for report in reports),
        "nodes": {report.node: report.plain() for report in reports},
        "gpufleet": [report.line(params["phase"] or params["state"], params["wave"]) for report in reports],
        "diff": _maintenance_data.difference(reports),
    }
    errors = [report.error for report in reports if report.error]
    if errors:
        module.fail_json(msg=" ".join(errors), **answer)
    module.exit_json(**answer)


def _require_pods(wishes: list[_maintenance_data.Wish]) -> None:
    for wish in wishes:
        if wish.pods is None:
            raise MigError(
                f"Node {wish.name}: evict is affected, so its pods must be given (an empty list where none has to go); "
                "evict: node evicts every pod that uses a GPU. Nothing was changed."
            )


def _options(params: dict[str, Any], dry: bool) -> _maintenance_data.Options:
    return _maintenance_data.Options(
        run=params["run"],
        phase=params["phase"],
        wave=params["wave"],
        takeover=params["takeover"],
        evict=params["evict"],
        allowed=_eviction.Allowed(params["evict_unmanaged"], params["evict_emptydir"], params["evict_daemonsets"]),
        timeout=params["timeout"],
        jobs_timeout=params["jobs_timeout"],
        jobs_action=params["jobs_action"],
        grace_period=params["grace_period"],
        pause=params["pause"],
        clean_failed=params["clean_failed"],
        dry=dry,
    )


if __name__ == "__main__":
    main()
