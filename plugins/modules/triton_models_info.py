#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module triton_models_info: what stands in a model repository of Triton Inference Server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_models_info
short_description: Read a model repository of Triton Inference Server
version_added: "0.1.0"
description:
  - Lists the models of a folder with their C(config.pbtxt), versions and files, as P(gpufleet.mig.serving_plan#filter)
    checks them.
  - With O(content) it also returns what the files hold, to make a ConfigMap of a small repository.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  path:
    description: The folder, with a folder per model.
    type: path
    required: true
  content:
    description: Return the content of every file. A repository above 900000 bytes is refused, as no ConfigMap takes it.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - plugin: gpufleet.mig.serving_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the models beside the inventory
  gpufleet.mig.triton_models_info:
    path: "{{ inventory_dir }}/models"
    content: true
  delegate_to: localhost
  register: repository
"""

RETURN = r"""
models:
  description: The models by name.
  returned: success
  type: dict
  contains:
    config: {description: Text of config.pbtxt. Null where there is none., type: str, returned: always}
    versions:
      description: Names of the version folders. With O(content) only those with a file, a ConfigMap holds no others.
      type: list
      elements: str
      returned: always
      sample: ["1"]
    files:
      description: Paths below the model's folder.
      type: list
      elements: str
      returned: always
      sample: [1/model.py]
content:
  description: The files of all models as base64, by their path in the repository.
  returned: with O(content)
  type: dict
  sample: {add/config.pbtxt: bmFtZTogImFkZCIK}
"""

import base64
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "bool", "default": False},
}
LIMIT = 900_000  # a ConfigMap takes 1 MiB with its names, and base64 is only the API's way to carry it


def read_models(path: Path, *, full: bool) -> dict[str, dict[str, Any]]:
    """Every folder that may be a model. With ``full`` a version folder counts only if it has a file."""
    found = {}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        config = folder / "config.pbtxt"
        found[folder.name] = {
            "config": config.read_text("utf-8", "replace") if config.is_file() else None,
            "versions": sorted(each.name for each in folder.iterdir() if _version(each) and (_files(each) or not full)),
            "files": [str(file.relative_to(folder)) for file in _files(folder)],
        }
    return found


def _version(entry: Path) -> bool:
    return entry.is_dir() and entry.name.isdigit()


def _files(folder: Path) -> list[Path]:
    """Without hidden ones and what Python leaves behind."""
    below = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    skipped = ("__pycache__", ".")
    return [file for file in below if not any(part.startswith(skipped) for part in file.relative_to(folder).parts)]


def read_content(path: Path, models: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Base64 of every file by its path in the repository; MigError where that is too much for a ConfigMap."""
    files = {f"{name}/{file}": path / name / file for name, found in models.items() for file in found["files"]}
    size = sum(file.stat().st_size for file in files.values())
    if size > LIMIT:
        raise MigError(
            f"The model repository {path} holds {size} bytes, more than the {LIMIT} that fit into a ConfigMap: put it "
            "on a volume, the hosts or S3 and say so in triton_model_repository."
        )
    return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}


def main() -> None:
    """Read and report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    path = Path(module.params["path"])
    try:
        models = read_models(path, full=module.params["content"])
        content = {"content": read_content(path, models)} if module.params["content"] else {}
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    except OSError as error:
        module.fail_json(msg=f"The model repository {path} cannot be read: {error.strerror} ({error.filename}).")
    module.exit_json(changed=False, models=models, **content)


if __name__ == "__main__":
    main()
