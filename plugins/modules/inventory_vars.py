#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module inventory_vars: variables of hosts into an inventory's host_vars, all else there as it was."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_vars
short_description: Write variables of hosts into the host_vars of an inventory
version_added: "0.1.0"
description:
  - Writes variables of many hosts into a folder C(host_vars), for M(gpufleet.mig.mig_layout) of hosts whose GPUs were
    partitioned by other means.
  - What else stands in the files stays as it is, comments and encrypted values included. Where a variable stands
    already, it goes there; else into C(HOST/mig.yml) where C(HOST) is a folder, into the file that Ansible loads for
    the host, or into a new file C(HOST.yml).
  - A file that cannot be changed safely (encrypted as a whole, JSON, or no YAML mapping) is refused by its name, before
    anything is written for any host.
  - Runs on the controller.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  path:
    description: The folder C(host_vars). It is made where it does not exist.
    type: path
    required: true
  hosts:
    description: Variables per inventory name.
    type: dict
    required: true
  overwrite:
    description:
      - Replace variables that have another value. Otherwise they stay, and a host with another C(mig_layout) is left
        alone altogether.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
requirements:
  - python >= 3.11
  - PyYAML
seealso:
  - plugin: gpufleet.mig.adopted_vars
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take over what stands on a host
  gpufleet.mig.inventory_vars:
    path: "{{ inventory_dir }}/host_vars"
    hosts:
      gpu-01: "{{ (host.gpus | gpufleet.mig.adopted_vars).variables }}"
  delegate_to: localhost
"""

RETURN = r"""
hosts:
  description: What was (would be) done, per host.
  returned: success
  type: dict
  contains:
    action:
      description: V(written), V(same) (all stands there already) or V(kept) (another C(mig_layout) stands there).
      type: str
      returned: always
      sample: written
    files: {description: Files that were (would be) written., type: list, elements: str, returned: always}
  sample: {gpu-01: {action: written, files: [/etc/fleet/host_vars/gpu-01.yml]}}
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _host_vars
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

EXTENSIONS = (".yml", ".yaml", ".json")

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "hosts": {"type": "dict", "required": True},
    "overwrite": {"type": "bool", "default": False},
}


def files_of(folder: Path, host: str) -> tuple[list[Path], Path]:
    """The files that Ansible loads for a host, in its order, and the one for a new variable."""
    own = folder / host
    if own.is_dir():
        found = [path for path in sorted(own.rglob("*")) if path.is_file() and path.suffix in ("", *EXTENSIONS)]
        hidden = [path for path in found if any(part.startswith(".") for part in path.relative_to(own).parts)]
        return [path for path in found if path not in hidden and not path.name.endswith("~")], own / "mig.yml"
    for path in (own, *(folder / f"{host}{extension}" for extension in EXTENSIONS)):
        if path.is_file():
            return [path], path
    return [], folder / f"{host}.yml"


def write(module: AnsibleModule, path: Path, text: str) -> None:
    """The whole file or nothing of it; an existing one keeps its owner and mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".mig-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(0o644)
    module.atomic_move(name, str(path))


def main() -> None:
    """Read all files, make all texts, and only then write."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    folder = Path(module.params["path"])
    edits: list[tuple[Path, str, str]] = []
    hosts = {}
    try:
        for host, variables in sorted(module.params["hosts"].items()):
            if "/" in host or host in (".", ".."):
                raise MigError(f"The host name {host} cannot be the name of a file. Nothing was written for any host.")
            paths, target = files_of(folder, host)
            texts = {str(path): path.read_text(encoding="utf-8") for path in paths}
            done = _host_vars.edit(host, texts, str(target), variables, overwrite=module.params["overwrite"])
            hosts[host] = {"action": done.action, "files": sorted(done.texts)}
            edits += [(Path(name), texts.get(name, ""), text) for name, text in sorted(done.texts.items())]
        if not module.check_mode:
            for path, _before, text in edits:
                write(module, path, text)
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"The host variables in {folder} cannot be read or written: {error}.")
    diff = [
        {"before_header": str(path), "after_header": str(path), "before": before, "after": text}
        for path, before, text in edits
    ]
    module.exit_json(changed=bool(edits), hosts=hosts, diff=diff)


if __name__ == "__main__":
    main()
