#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module rollout_lock: one roll-out per cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lock
short_description: Take, give back or look at the lock that keeps two roll-outs of one cluster apart
version_added: "0.1.0"
description:
  - The lock is a C(coordination.k8s.io/v1) Lease. Every write is guarded by the resource version that was read, so two
    runs cannot both get it.
  - The holder is named by run id, controller and process. Modules that wait (M(gpufleet.mig.node_maintenance),
    M(gpufleet.mig.node_gpu_info), M(gpufleet.mig.node_publishers)) renew it when they are given the RV(lock) that this
    module returns, and stop when it was lost. No process stays behind.
  - A lock is taken over when its holder did not renew it for its duration while this module watched (O(wait) must be
    longer than that), and at once when the holder was a process of this machine, boot and PID namespace that has ended.
    Clocks of different machines are never compared.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  state:
    description:
      - V(held) takes the lock, or renews it where this run holds it already.
      - V(released) gives it back. A lock that nobody holds is as wanted, one that somebody else holds by now an error.
      - V(shown) only reads.
      - V(absent) deletes the Lease, for uninstalling. One that somebody holds is an error.
    type: str
    choices: [held, released, shown, absent]
    default: held
  namespace:
    description: Namespace of the Lease. It must exist.
    type: str
    default: kube-system
  name:
    description: Name of the Lease. Runs that use different names do not see each other.
    type: str
    default: gpufleet-rollout
  run:
    description: Id of the run, different for each run. Needed to take the lock.
    type: str
  holder:
    description: The holder to release for, as RV(lock) told it. Without it the run and its process are asked again.
    type: str
  pid:
    description:
      - Process on the machine of this module that the run stands and falls with. Without it the C(ansible-playbook)
        above the module is used; where there is none, the holder counts as alive until the lease has expired.
    type: int
  duration:
    description:
      - Seconds without renewal after which another run may take the lock. It must be longer than the longest step of a
        run that cannot renew it; renew with a longer one before a reboot.
    type: float
    default: 300
  wait:
    description: Seconds to wait for a lock that somebody else holds; V(0) refuses at once.
    type: float
    default: 0
  poll:
    description: Seconds between two looks at a lock that somebody else holds.
    type: float
    default: 2
  force:
    description:
      - Take the lock from a holder that is not known to be dead. Only for a person who knows that it is. Who was
        overridden stays in the annotation C(gpufleet.io/taken-over-from) of the Lease.
    type: bool
    default: false
  covers:
    description:
      - Names of the nodes that this run works on. Where an earlier run was stopped in the middle of another node, that
        node is named and the lock is given back at once, because nobody would finish it. Without this nobody looks.
    type: list
    elements: str
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: A lock that somebody else holds is an error in check mode too; it does not wait.
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_maintenance
"""

EXAMPLES = r"""
- name: Only one roll-out at a time
  gpufleet.mig.rollout_lock:
    run: "{{ rollout_run_id }}"
    wait: 330
  register: rollout
  delegate_to: localhost
  run_once: true

- name: Wait for a node, and keep the lock meanwhile
  gpufleet.mig.node_gpu_info:
    nodes: [gpu-01]
    expect:
      gpu-01:
        resources:
          nvidia.com/mig-1g.10gb: 7
    timeout: 180
    lock: "{{ rollout.lock }}"
  delegate_to: localhost

- name: Give it back
  gpufleet.mig.rollout_lock:
    state: released
    holder: "{{ rollout.lock.holder }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
holder:
  description: Who holds the lock after this call, null where nobody does.
  returned: success
  type: str
  sample: 2026-11-25-7f3a@ctl-1:4242:88120
since:
  description: When that holder took it, by its own clock; null where nobody holds it.
  returned: success
  type: str
  sample: "2026-11-25T10:00:00.000000Z"
lock:
  description: What other modules take as their option C(lock). Null unless this run holds it.
  returned: success
  type: dict
  sample:
    namespace: kube-system
    name: gpufleet-rollout
    holder: 2026-11-25-7f3a@ctl-1:4242:88120
    duration: 300
taken_over_from:
  description: The holder that was replaced and why (C(dead), C(expired) or C(forced)), null where none was.
  returned: success
  type: dict
  contains:
    holder: {description: Its name., type: str, returned: always}
    since: {description: When it had taken the lock., type: str, returned: always}
    reason: {description: Why it was replaced., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _lease, _lock, _ownership, _process
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    "state": {"type": "str", "choices": ["held", "released", "shown", "absent"], "default": "held"},
    "namespace": {"type": "str", "default": _lease.NAMESPACE},
    "name": {"type": "str", "default": _lease.NAME},
    "run": {"type": "str"},
    "holder": {"type": "str"},
    "pid": {"type": "int"},
    "duration": {"type": "float", "default": _lease.DURATION_S},
    "wait": {"type": "float", "default": 0},
    "poll": {"type": "float", "default": 2},
    "force": {"type": "bool", "default": False},
    "covers": {"type": "list", "elements": "str"},
}


def main() -> None:
    """Read, decide, take or give back, report."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", "held", ["run"]), ("state", "released", ["run", "holder"], True)],
    )
    params = module.params
    process = _process.find(params["pid"])
    me = params["holder"] or (_lease.identity(params["run"], process) if params["run"] else "")
    try:
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        lock = _lock.Lock(kube, params["namespace"], params["name"])
        if params["state"] == "held":
            answer = _held(lock, me, process, params, module.check_mode)
            _refuse_orphans(kube, lock, me, params, module.check_mode)
        elif params["state"] == "released":
            given_back = lock.release(me, dry=module.check_mode)
            answer = {"changed": given_back, "holder": None, "since": None, "before": me if given_back else ""}
        elif params["state"] == "absent":
            answer = {"changed": lock.remove(dry=module.check_mode), "holder": None, "since": None}
        else:
            found = _lease.read(lock.read())
            answer = {"changed": False, "holder": found and found.holder, "since": found and found.since}
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    before = answer.pop("before", answer["holder"])
    lines = [f"lease {lock.namespace}/{lock.name}: holder {who or 'none'}\n" for who in (before, answer["holder"])]
    module.exit_json(**{"taken_over_from": None, "lock": None, **answer}, diff={"before": lines[0], "after": lines[1]})


def _held(lock: _lock.Lock, me: str, process: _process.Process, params: dict[str, Any], dry: bool) -> dict[str, Any]:
    taken = lock.acquire(
        me,
        process,
        duration=params["duration"],
        wait=params["wait"],
        force=params["force"],
        poll=params["poll"],
        dry=dry,
    )
    replaced = taken.before if taken.how in ("dead", "expired", "forced") else None
    return {
        "changed": taken.how != "mine",
        "before": taken.before.holder if taken.before else "",
        "holder": me,
        "since": taken.since,
        "lock": {"namespace": lock.namespace, "name": lock.name, "holder": me, "duration": params["duration"]},
        "taken_over_from": replaced and {"holder": replaced.holder, "since": replaced.since, "reason": taken.how},
    }


def _refuse_orphans(kube: _kube.Kube, lock: _lock.Lock, me: str, params: dict[str, Any], dry: bool) -> None:
    """With the lock ours, whoever marked a node is dead: its node is finished by this run or by nobody."""
    if params["covers"] is None:
        return
    left = _ownership.in_the_middle(kube.items("/api/v1/nodes"), params["run"])
    orphans = sorted(set(left) - set(params["covers"]))
    if orphans:
        lock.release(me, dry=dry)
        raise MigError(
            "An earlier roll-out was stopped in the middle of "
            + "; ".join(f"node {name} (run {left[name]})" for name in orphans)
            + ", which this run does not cover. Nothing was changed: add their hosts to this run (inventory, "
            "mig_hosts, --limit), or give the nodes back with node_maintenance state=restored.",
            orphans=orphans,
        )


if __name__ == "__main__":
    main()
