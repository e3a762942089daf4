#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module cdi_specification: the CDI specification of the GPUs and instances that are there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cdi_specification
short_description: Keep the CDI specification of a host as its GPUs are
version_added: "0.1.0"
description:
  - Has C(nvidia-ctk cdi generate) describe the GPUs and MIG instances that are there, and writes the file where that
    differs from what it says. A specification that was written before a layout changed names devices that are gone.
  - Where MIG is on everywhere and no instance is there, there is nothing to describe, and the file is removed.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  path:
    description: The file. There must be one only, two that describe the same devices make all of them unusable.
    type: path
    default: /etc/cdi/nvidia.yaml
  state:
    description: V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Describe the instances that are there now
  gpufleet.mig.cdi_specification:
  become: true
"""

RETURN = r"""
devices:
  description: Names of the devices, without vendor and class.
  returned: when O(state=present) and nvidia-ctk is installed
  type: list
  elements: str
  sample: ["0:0", "0:1", all]
"""

import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._toolkit import cdi_specification, installed, text_of
from ansible_collections.gpufleet.mig.plugins.module_utils._written import put


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/cdi/nvidia.yaml"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path, before = module.params["path"], text_of(module.params["path"])
    wanted: str | None = None
    result: dict[str, list[str]] = {}
    if module.params["state"] == "present":
        if module.check_mode and not installed():
            module.exit_json(changed=True, msg="nvidia-ctk is not installed yet")
        try:
            found = wanted = cdi_specification()
        except (MigError, OSError) as error:
            module.fail_json(msg=f"{error} {path} is as it was.")
        result["devices"] = re.findall(r'^\s+name: "?([^"\n]+?)"?$', found or "", re.MULTILINE)
    if wanted != before and not module.check_mode:
        put(module, path, wanted)
    module.exit_json(
        changed=wanted != before,
        diff={"before": before or "", "after": wanted or "", "before_header": path, "after_header": path},
        **result,
    )


if __name__ == "__main__":
    main()
