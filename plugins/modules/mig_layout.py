#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mig_layout: partition the GPUs of a host as a layout says, changing only what differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mig_layout
short_description: Partition the GPUs of a host with the fewest changes
version_added: "0.1.0"
description:
  - Brings all GPUs of the host to a layout in one call. It reads the hardware, plans, applies the plan, and reads back
    and compares.
  - The plan is exact. An instance that can stay is never destroyed, and every new one is created at its planned place.
  - Nothing is touched when the layout cannot be, or when something uses an instance that has to go. The message then
    names the conflict and the nearest layout that fits, or the process and its instance.
  - When a call fails half-way, all GPUs of the host are put back to what stood before, and the message says so.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  metrics:
    description:
      - Folder of node_exporter's textfile collector. What stands then, and whether this change reached its layout, is
        written there.
    type: path
extends_documentation_fragment:
  - gpufleet.mig.layout
  - gpufleet.mig.mig_host
  - gpufleet.mig.mig_host.change
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Foretells the same as a run does, and calls nothing that changes a GPU.
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.mig_info
  - module: gpufleet.mig.mig_mode
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: All GPUs in the balanced mix of their board
  gpufleet.mig.mig_layout:
    layout: all-balanced
  become: true

- name: Different GPUs, some instances at given places
  gpufleet.mig.mig_layout:
    layout:
      - gpus: [0, 1]
        instances: {1g.10gb: 7}
      - gpus: 2
        instances:
          - {profile: 3g.40gb, start: 4}
          - {profile: 3g.40gb, start: 0, compute_instances: [1c.3g.40gb, 2c.3g.40gb]}
      - gpus: rest
        mig: disabled
  become: true
  register: partitioned

- name: Reboot where a MIG mode waits for it
  ansible.builtin.reboot:
  when: partitioned.reboot_required
  become: true
"""

RETURN = r"""
plan:
  description: What stays, goes and comes on each GPU, as the filter P(gpufleet.mig.plan#filter) returns it.
  returned: when the layout could be planned
  type: dict
actions:
  description: The steps of the plan in their order on each GPU.
  returned: success
  type: list
  elements: dict
  sample:
    - {gpu: 0, action: destroy, profile: 1g.5gb, start: 4}
    - {gpu: 0, action: create, profile: 2g.10gb, start: 4, compute_instances: [2g.10gb]}
gpus:
  description: The GPUs after the change, as RV(gpufleet.mig.mig_info#module:gpus). In check mode as they would be.
  returned: success
  type: list
  elements: dict
host:
  description: The host, as RV(gpufleet.mig.mig_info#module:host).
  returned: success
  type: dict
reboot_required:
  description: A MIG mode takes effect only after a reboot. Run the module again after it.
  returned: success
  type: bool
interrupted:
  description: The journal of an earlier run that did not end, with what stood before it. V(null) where there is none.
  returned: success
  type: dict
gpufleet:
  description: One entry per node for reports and progress.
  returned: success
  type: list
  elements: dict
  contains:
    node: {description: Not known on the host., type: str, returned: always}
    phase: {description: V(partitioned)., type: str, returned: always}
    wave: {description: Not known on the host., type: int, returned: always}
    digests: {description: C(before) and C(target); not known here., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicted: {description: Pods that went; none here., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the call took., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
blockers:
  description: What uses an instance that has to go, each with a remedy.
  returned: when the change is refused because of them
  type: list
  elements: dict
undone:
  description: After a failure, the GPUs that are again as before (C(back)) and those that are not (C(not_back)).
  returned: when a change failed half-way
  type: dict
pynvml_missing:
  description: The host's Python has no C(pynvml), so NVML could not be asked.
  returned: when the module fails because of that
  type: bool
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _boot, _host_change, _metrics, _progress
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

ARGUMENT_SPEC: dict[str, Any] = {
    **_host_change.ARGUMENT_SPEC,
    "layout": {"type": "raw", "required": True},
    "layouts": {"type": "dict", "default": {}},
    "unlisted_gpus": {"type": "str", "choices": ["keep", "disable", "fail"], "default": "keep"},
    "metrics": {"type": "path"},
}


def main() -> None:
    """Read, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params, started = module.params, time.monotonic()
    folder = None if module.check_mode else params["metrics"]
    try:
        with _host_change.HostChange.begin(params, module.check_mode) as change:
            plan = plan_host(
                change.reading.gpus,
                params["layout"],
                layouts=params["layouts"],
                unlisted=params["unlisted_gpus"],
                allow=params["mode_changes"],
            )
            result = change.carry_out(plan)
    except MigError as error:
        for sentence in _metrics.keep(folder, _metrics.APPLY_FILE, _metrics.apply_metrics(False)):
            module.warn(sentence)
        module.fail_json(msg=str(error), **error.context)
    for sentence in change.warnings + _keep_metrics(folder, result):
        module.warn(sentence)
    module.exit_json(**result, gpufleet=[_progress.line(None, "partitioned", seconds=time.monotonic() - started)])


def _keep_metrics(folder: str | None, result: dict[str, Any]) -> list[str]:
    waiting = bool(result["reboot_required"])
    standing = _metrics.layout_metrics(result["gpus"], _boot.digest(result["plan"]["after"]), waiting)
    said = _metrics.keep(folder, _metrics.LAYOUT_FILE, standing)
    return said or _metrics.keep(folder, _metrics.APPLY_FILE, _metrics.apply_metrics(not waiting))


if __name__ == "__main__":
    main()
