# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs of a host as Slurm's generic resources, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gres_conf
short_description: The GPUs of a host as Slurm's generic resources
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Gives the text of C(gres.conf) for the host, and what the node's line in C(slurm.conf) has to say.
  - A GPU with MIG enabled and no compute instance is an error, because C(slurmd) does not start then.
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), or C(after) of a plan.
    type: list
    elements: dict
    required: true
  minors:
    description:
      - Text of C(/proc/driver/nvidia-caps/mig-minors) of the host. With it every device file is listed, as a Slurm that
        was built without NVML needs it. Without it Slurm detects them.
    type: str
"""

EXAMPLES = r"""
- name: Write gres.conf
  ansible.builtin.copy:
    content: "{{ (host.gpus | gpufleet.mig.gres_conf).text }}"
    dest: /etc/slurm/gres.conf
    mode: "0644"

- name: Say what slurm.conf needs
  ansible.builtin.debug:
    msg: "NodeName={{ inventory_hostname }} Gres={{ (host.gpus | gpufleet.mig.gres_conf).gres }}"
"""

RETURN = r"""
_value:
  description: C(text) is the file, C(gres) the value of C(Gres=) such as V(gpu:nvidia_a100_3g.20gb:2).
  type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _slurm
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def gres_conf(gpus: Any, minors: str | None = None) -> dict[str, str]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given, or slurmd would refuse it."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.gres_conf works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    try:
        return {"text": _slurm.gres_conf(gpus, minors), "gres": _slurm.gres(gpus)}
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gres_conf": gres_conf}
