# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was changed by hand since a roll-out, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: layout_drift
short_description: What was changed on GPUs since a roll-out made them
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Compares what stands with a layout that was made earlier, and says per GPU what it was and what it is.
positional: made
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), read by root.
    type: list
    elements: dict
    required: true
  made:
    description: The layout that was made; null where that is not known.
    type: list
    elements: dict
seealso:
  - module: gpufleet.mig.node_gpu_info
"""

EXAMPLES = r"""
- name: Say what somebody changed
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.layout_drift(shown.nodes['gpu-01'].made.layout) }}"
"""

RETURN = r"""
_value:
  description: One sentence per GPU that is not as made, with what it was and what it is.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _drift


def layout_drift(gpus: Any, made: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """See DOCUMENTATION. AnsibleFilterError where something else than GPUs is given."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.layout_drift works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    return [] if made is None else _drift.drift(gpus, made)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"layout_drift": layout_drift}
