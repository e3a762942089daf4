# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible holds before it forks for every task and host, out of the garbage collector's way, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gc_freeze
short_description: Have forked processes not search what is there already
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Ansible forks a process for every task and host. Python's garbage collector searches in each of them all that the
    forking process held, and searching copies its memory. This puts what is there now aside (Python's C(gc.freeze)), in
    the process that computes the template, which for the condition of C(ansible.builtin.meta) is the one that forks.
  - Nothing else changes. What becomes garbage later of what was put aside stays until the run ends.
options:
  _input:
    description: Any value.
    type: raw
    required: true
notes:
  - On a host that is right it takes more than a tenth off the time of the playbook C(gpufleet.mig.site).
"""

EXAMPLES = r"""
- name: Go on with what is loaded put aside
  ansible.builtin.meta: end_play
  when: not true | gpufleet.mig.gc_freeze
"""

RETURN = r"""
_value:
  description: The value as it was given.
  type: raw
"""

import gc
from typing import Any, Callable


def gc_freeze(value: Any) -> Any:
    """See DOCUMENTATION."""
    gc.freeze()
    return value


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gc_freeze": gc_freeze}
