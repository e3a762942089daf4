#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module container_runtime: NVIDIA's runtime in containerd, CRI-O or Docker."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_runtime
short_description: Have a container runtime know NVIDIA's, through nvidia-ctk
version_added: "0.1.0"
description:
  - Runs C(nvidia-ctk runtime configure) and C(nvidia-ctk config) on copies of the files and writes those that differ.
    Other settings in the files stay.
  - Remembers what stood before, so that V(absent) puts it back.
  - Restarts nothing; RV(restart) says whether the runtime has to read its files again.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  runtime:
    description:
      - The container runtime. V(none) leaves it alone and keeps the toolkit's O(settings) only; so do V(k3s) and
        V(rke2), which write their files themselves and find NVIDIA's runtime when they start.
    type: str
    choices: [containerd, crio, docker, k3s, rke2, none]
    default: containerd
  config:
    description:
      - Its configuration file, by default C(/etc/containerd/config.toml), C(/etc/crio/crio.conf) or
        C(/etc/docker/daemon.json).
    type: path
  drop_in:
    description:
      - A file of its own for what is added, which O(config) then includes; empty to write into O(config). By default
        C(/etc/containerd/conf.d/99-nvidia.toml) or C(/etc/crio/crio.conf.d/99-nvidia.toml), and none for Docker.
      - containerd needs one.
    type: str
  default_runtime:
    description: Use NVIDIA's runtime for containers that ask for none.
    type: bool
    default: false
  enable_cdi:
    description: Switch the Container Device Interface on, where the runtime has it off by default.
    type: bool
    default: true
  settings:
    description: Settings of the toolkit itself, in C(/etc/nvidia-container-runtime/config.toml).
    type: dict
    default: {}
  memory:
    description: File that remembers what stood before.
    type: path
    default: /var/lib/gpufleet-mig/container-runtime.json
  state:
    description: V(absent) puts back what stood before.
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
- name: Add the runtime nvidia to containerd
  gpufleet.mig.container_runtime:
    runtime: containerd
    settings: {accept-nvidia-visible-devices-envvar-when-unprivileged: "false"}
  become: true
  register: runtime

- name: Have it read its configuration
  ansible.builtin.systemd_service:
    name: containerd
    state: restarted
  become: true
  when: runtime.restart
"""

RETURN = r"""
written: {description: Files that differed., returned: success, type: list, elements: str}
restart:
  description: The runtime's own files changed. The toolkit reads its file for each container.
  returned: success
  type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._toolkit import (
    TOOLKIT_CONFIG,
    Memory,
    configured,
    differing,
    installed,
    text_of,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._written import put

USUAL = {
    "containerd": ("/etc/containerd/config.toml", "/etc/containerd/conf.d/99-nvidia.toml"),
    "crio": ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d/99-nvidia.toml"),
    "docker": ("/etc/docker/daemon.json", ""),
}
"""Where a runtime has its configuration, and what is added to it. Of others only the toolkit's settings are kept."""

ARGUMENT_SPEC = {
    "runtime": {"type": "str", "choices": [*USUAL, "k3s", "rke2", "none"], "default": "containerd"},
    "config": {"type": "path"},
    "drop_in": {"type": "str"},
    "default_runtime": {"type": "bool", "default": False},
    "enable_cdi": {"type": "bool", "default": True},
    "settings": {"type": "dict", "default": {}},
    "memory": {"type": "path", "default": "/var/lib/gpufleet-mig/container-runtime.json"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    runtime = given["runtime"] if given["runtime"] in USUAL else "none"
    usual = USUAL.get(runtime, ("", ""))
    config = given["config"] or usual[0]
    drop_in = usual[1] if given["drop_in"] is None else given["drop_in"]
    memory = Memory(given["memory"])
    if given["state"] == "present" and module.check_mode and not installed():
        module.exit_json(
            changed=True,
            written=[TOOLKIT_CONFIG if runtime == "none" else config],
            restart=runtime != "none",
            msg="nvidia-ctk is not installed yet",
        )
    try:
        if given["state"] == "absent":
            wanted = memory.restored()
        else:
            wanted = configured(
                runtime, config, drop_in, {k: str(v) for k, v in given["settings"].items()},
                given["default_runtime"], given["enable_cdi"],
            )  # fmt: skip
    except (MigError, OSError) as error:
        module.fail_json(msg=f"{error} Nothing was changed.")
    written = differing(wanted)
    before = {path: text_of(path) for path in written}
    if written and not module.check_mode:
        for path in written:
            put(module, path, wanted[path])
        if given["state"] == "present":
            memory.remember(before, {path: wanted[path] for path in written})
    if given["state"] == "absent" and not module.check_mode:
        Path(given["memory"]).unlink(missing_ok=True)
    module.exit_json(
        changed=bool(written),
        written=written,
        restart=any(path != TOOLKIT_CONFIG for path in written),
        diff=[
            {"before": before[path] or "", "after": wanted[path] or "", "before_header": path, "after_header": path}
            for path in written
        ],
    )


if __name__ == "__main__":
    main()
