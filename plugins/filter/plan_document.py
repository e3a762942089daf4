# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a fleet to read, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_document
short_description: The plan of a fleet as text or Markdown
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Renders what P(gpufleet.mig.fleet_plan#filter) returns for people. JSON is the plan itself.
positional: format
options:
  _input:
    description: The plan of the fleet.
    type: dict
    required: true
  format:
    description: V(text) for a terminal, V(markdown) for a review.
    type: str
    choices: [text, markdown]
    default: text
seealso:
  - plugin: gpufleet.mig.fleet_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ (plan | gpufleet.mig.plan_document).splitlines() }}"

- name: Write it for the pull request
  ansible.builtin.copy:
    content: "{{ plan | gpufleet.mig.plan_document('markdown') }}"
    dest: plan.md
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The document.
  type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _plan_document

FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": _plan_document.text,
    "markdown": _plan_document.markdown,
}


def plan_document(plan: Any, format: str = "text") -> str:
    """See DOCUMENTATION. AnsibleFilterError where it is no plan of a fleet, or the format does not exist."""
    if not isinstance(plan, Mapping) or not {"hosts", "fleet", "destroy", "waves"} <= set(plan):
        raise AnsibleFilterError("gpufleet.mig.plan_document works on what gpufleet.mig.fleet_plan returns.")
    if format not in FORMATS:
        raise AnsibleFilterError(f"gpufleet.mig.plan_document writes {' or '.join(FORMATS)}, not {format!r}.")
    return FORMATS[format](plan)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan_document": plan_document}
