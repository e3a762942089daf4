#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action rollout_report; its code is plugins/action/rollout_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_report
short_description: Keep the record of a node in a roll-out, and write the roll-out's report
version_added: "0.1.0"
description:
  - Takes a node's record to its next phase, returns it, and writes C(rollout.json) and C(rollout.md) with the records
    of all nodes. What they hold is in C(docs/rollout_report.md).
  - The files are replaced as a whole at each call, so a run that is stopped or killed leaves the report of the phase
    that it was in. Only their owner may read them.
  - Runs on the controller within ansible-playbook; the host is not contacted, so it may be one that does not answer.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  output:
    description:
      - Folder for the files, made where it is missing. Without it the record is only returned.
      - Where it cannot be written in the middle of a node, that is a warning.
    type: str
    default: ""
  run:
    description: Id of the run. Records of another run in the files are replaced.
    type: str
    required: true
  order:
    description: Begins the record. The nodes that change, and the gates between waves.
    type: dict
    suboptions:
      hosts:
        description: All hosts that change, in their order.
        type: list
        elements: str
      waves:
        description: Gates as P(gpufleet.mig.rollout_batches#filter) takes them.
        type: raw
  record:
    description: The node's record so far.
    type: dict
  phase:
    description: The phase that begins, or V(done), V(put_back), V(not_changed), V(failed).
    type: str
  details:
    description:
      - What became known, by the keys of the record. Of C(layout), C(allocatable) and C(digests) one side is enough;
        C(evicted) is added to what is there; of C(overrides) only what differs from the default is kept.
    type: dict
    default: {}
  evicting:
    description: Pods that are to go in this phase, for the progress line.
    type: list
    elements: str
    default: []
  records:
    description: Records of other hosts that are written too.
    type: list
    elements: dict
    default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: In check mode no file is written.
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - plugin: gpufleet.mig.rollout_document
    plugin_type: filter
  - plugin: gpufleet.mig.rollout_progress
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Say that the node is being changed
  gpufleet.mig.rollout_report:
    run: 20261125T101500Z-1b2c3d4e
    output: out
    record: "{{ noted.record }}"
    phase: changing
    details:
      evicted: [shop/web-6d4f]
  register: noted
"""

RETURN = r"""
record:
  description: The record as it is now.
  returned: with O(order) or O(record)
  type: dict
gpufleet:
  description: The node's line for progress, as M(gpufleet.mig.node_maintenance) returns it, and its place.
  returned: always
  type: list
  elements: dict
  contains:
    node: {description: Name of the node., type: str, returned: always}
    phase: {description: The phase that begins., type: str, returned: always}
    wave: {description: Number of its wave., type: int, returned: always}
    waves: {description: How many waves there are., type: int, returned: always}
    number: {description: Number of the node among those that change., type: int, returned: always}
    of: {description: How many nodes change., type: int, returned: always}
    digests: {description: C(before) and C(target)., type: dict, returned: always}
    blockers: {description: What stood in the way., type: list, elements: dict, returned: always}
    evicting: {description: Pods that are to go now., type: list, elements: str, returned: always}
    evicted: {description: Pods that went so far., type: list, elements: str, returned: always}
    seconds: {description: Seconds that the node was worked on., type: float, returned: always}
    error: {description: Why the node failed., type: str, returned: always}
"""
