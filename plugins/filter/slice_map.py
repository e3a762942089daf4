# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory slices of GPUs as text, for tables that people read."""

from __future__ import annotations

DOCUMENTATION = r"""
name: slice_map
short_description: Text picture of the memory slices of a GPU
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Draws each GPU as one line of its memory slices from left to right, with the instances at their places. Dashes are
    free slices, dots belong to the instance before them.
  - A star marks an instance that a process uses. What stands in parentheses are the compute instances inside, where
    these are not one that fills the instance.
  - A GPU without instances because MIG is off or not supported is described in words.
positional: after
options:
  _input:
    description: One GPU or a list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), or as C(after) of a plan.
    type: raw
    required: true
  after:
    description:
      - The same GPU or GPUs at a later time, such as C(after) of a plan. Each result is then a pair of pictures at the
        same scale.
    type: raw
seealso:
  - plugin: gpufleet.mig.plan
    plugin_type: filter
  - module: gpufleet.mig.mig_info
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  register: host

- name: Show what stands
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.slice_map }}"
  # => ["|1g.10gb|1g.10gb|2g.20gb........|-------|-------|-------|-------|", "MIG disabled"]

- name: Show what the layout of the inventory would change on the first GPU
  ansible.builtin.debug:
    msg: "{{ host.gpus[0] | gpufleet.mig.slice_map(plan.after[0]) }}"
  vars:
    plan: "{{ host.gpus | gpufleet.mig.plan([{'gpus': 'all', 'instances': {'3g.40gb': 2}}]) }}"
  # => {"before": "|--|--|--|--|--|--|--|--|", "after": "|3g.40gb....|3g.40gb....|"}
"""

RETURN = r"""
_value:
  description:
    - The picture of a GPU, or the list of pictures of a list of GPUs.
    - With O(after), a mapping with C(before) and C(after) in the place of each picture.
  type: raw
  sample: "|1g.10gb|1g.10gb|2g.20gb........|3g.40gb........................|"
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _slice_map
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def slice_map(gpus: Any, after: Any = None) -> Any:
    """See DOCUMENTATION. AnsibleFilterError where something else than GPUs is given."""
    one = isinstance(gpus, Mapping)
    before = _listed(gpus)
    later = None if after is None else _listed(after)
    try:
        pictures = _slice_map.slice_maps(before, later)
    except MigError as error:
        raise AnsibleFilterError(f"gpufleet.mig.slice_map: {error}") from None
    return pictures[0] if one else pictures


def _listed(gpus: Any) -> list[Mapping[str, Any]]:
    given = [gpus] if isinstance(gpus, Mapping) else gpus
    if not isinstance(given, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in given):
        raise AnsibleFilterError(
            "gpufleet.mig.slice_map works on a GPU, or the list of GPUs, that gpufleet.mig.mig_info returns as gpus."
        )
    return given


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"slice_map": slice_map}
