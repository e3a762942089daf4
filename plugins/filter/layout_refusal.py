# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host that has no driver yet cannot have a layout, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: layout_refusal
short_description: Why a host cannot have a layout, before it has a driver
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Plans the layout on the boards that the PCI bus shows, with the facts about NVIDIA's products. A driver need not be
    brought, and a host need not reboot, to find out that a layout is wrong as written or does not fit.
  - V(null) where nothing is known against the layout. That is also so where a board is not among the facts, where GPUs
    are chosen by uuid, which only the driver knows, and where the facts do not have the profile, which a newer driver
    may bring.
positional: layout, layouts, unlisted_gpus
options:
  _input:
    description: The boards as RV(gpufleet.mig.gpu_host_info#module:gpus).
    type: list
    elements: dict
    required: true
extends_documentation_fragment: gpufleet.mig.layout
seealso:
  - module: gpufleet.mig.gpu_host_info
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at the host
  gpufleet.mig.gpu_host_info:
  register: host

- name: Refuse a layout that cannot be
  ansible.builtin.assert:
    that: why is none
    fail_msg: "{{ why }}"
  vars:
    why: "{{ host.gpus | gpufleet.mig.layout_refusal(mig_layout) }}"
"""

RETURN = r"""
_value:
  description: The sentence that P(gpufleet.mig.plan#filter) gives as reason, or V(null).
  type: str
  sample: >-
    The layout entry 1 has the unknown key instance; known are gpus, mig, instances, preset, name, optional, override.
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils._hardware import refusal


def layout_refusal(
    boards: list[dict[str, Any]], layout: Any, layouts: Mapping[str, Any] | None = None, unlisted_gpus: str = "keep"
) -> str | None:
    """See DOCUMENTATION."""
    return refusal(boards, layout, layouts or {}, unlisted_gpus)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"layout_refusal": layout_refusal}
