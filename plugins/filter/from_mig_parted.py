# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of nvidia-mig-parted as layouts, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: from_mig_parted
short_description: The layout that a configuration of nvidia-mig-parted means
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Reads a configuration file of nvidia-mig-parted (C(version=v1)), such as the ones that NVIDIA publishes with it and
    in the GPU operator's default config map, and returns one of its configurations as a layout.
  - Device filters become selections by C(device_id). A filter or an index that matches no GPU of a host is passed over
    as nvidia-mig-parted does (C(optional)), and a later entry takes GPUs from earlier ones (C(override)).
  - Where entries differ in C(mig-enabled) for one GPU, nvidia-mig-parted fails. Here the plan refuses such a host,
    before anything is touched, and names both entries.
  - Counts of parts of GPU instances (V(1c.3g.40gb)) are grouped as nvidia-mig-parted does, as many into one GPU
    instance as fit.
  - The whole file must be right. A profile that a board does not have is found when its GPU is planned.
positional: config, file
options:
  _input:
    description: The file's text, or what YAML makes of it.
    type: raw
    required: true
  config:
    description: Name of the configuration. May be left away where the file has only one.
    type: str
  file:
    description: Name of the file, for messages.
    type: str
seealso:
  - plugin: gpufleet.mig.to_mig_parted
    plugin_type: filter
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
# group_vars/gpu_nodes.yml
mig_layout: "{{ lookup('ansible.builtin.file', 'config.yaml') | gpufleet.mig.from_mig_parted('all-balanced') }}"

# presets that other layouts refer to, with the file's name in messages, and from the GPU operator's config map
mig_layouts:
  shared: "{{ lookup('ansible.builtin.file', 'c.yaml') | gpufleet.mig.from_mig_parted('shared', 'c.yaml') }}"
  small: "{{ config_map.data['config.yaml'] | gpufleet.mig.from_mig_parted('all-1g.10gb', 'config map') }}"
"""

RETURN = r"""
_value:
  description: A list of entries, as O(gpufleet.mig.mig_layout#module:layout) takes it.
  type: list
  elements: dict
  sample:
    - name: all-1g.10gb
      gpus: {device_id: ["0x233010DE", "0x20B210DE"]}
      optional: true
      instances: {1g.10gb: 7}
"""

from typing import Any, Callable

import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _mig_parted
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def from_mig_parted(source: Any, config: str | None = None, file: str | None = None) -> list[dict[str, Any]]:
    """See DOCUMENTATION. AnsibleFilterError says which file, configuration and entry is wrong, and the remedy."""
    if isinstance(source, str):
        try:
            source = yaml.safe_load(str(source))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise AnsibleFilterError(f"{file or 'The mig-parted file'} is no YAML: {error.problem}{at}.") from None
        except yaml.YAMLError:
            raise AnsibleFilterError(f"{file or 'The mig-parted file'} is no YAML: it is not text.") from None
    try:
        return _mig_parted.from_mig_parted(source, config, file)
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"from_mig_parted": from_mig_parted}
