# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a roll-out to read, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_document
short_description: The records of a roll-out as a table
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Draws one line per node with its outcome, its time and how many pods were evicted, and says what failed and what to
    do next.
options:
  _input:
    description: Records as RV(gpufleet.mig.rollout_report#module:record).
    type: list
    elements: dict
    required: true
seealso:
  - module: gpufleet.mig.rollout_report
"""

EXAMPLES = r"""
- name: Show what was done
  ansible.builtin.debug:
    msg: "{{ (records | gpufleet.mig.rollout_document).splitlines() }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _rollout_report


def rollout_document(records: Any) -> str:
    """See DOCUMENTATION. AnsibleFilterError where something else than records is given."""
    if not isinstance(records, list) or not all(isinstance(one, Mapping) and "phases" in one for one in records):
        raise AnsibleFilterError(
            "gpufleet.mig.rollout_document works on a list of what gpufleet.mig.rollout_report returns as record."
        )
    return _rollout_report.text(_rollout_report.document({}, records, ""))


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rollout_document": rollout_document}
