#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module repository_key: the key of a package repository, by its fingerprint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_key
short_description: Fetch the signing key of a package repository and check its fingerprint
version_added: "0.1.0"
description:
  - Puts the key into a file of its own, for C(signed-by) of apt or C(gpgkey) of dnf, only when its fingerprint is the
    one that is expected. Needs no C(gpg) on the host.
  - A file that has the right key is left alone and nothing is fetched.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  url:
    description: Where the key is, also C(file://).
    type: str
    required: true
  path:
    description: File on the host. The key must be armoured.
    type: path
    required: true
  fingerprint:
    description: Fingerprint of the primary key, 40 hexadecimal digits. Spaces and case do not matter.
    type: str
    required: true
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Trust NVIDIA's CUDA repository
  gpufleet.mig.repository_key:
    url: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/3bf863cc.pub
    path: /etc/apt/keyrings/nvidia-cuda.asc
    fingerprint: EB693B3035CD5710E231E123A4B469963BF863CC
  become: true
"""

RETURN = r"""
fingerprints:
  description: Fingerprints of the keys in the file.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._openpgp import fingerprints
from ansible_collections.gpufleet.mig.plugins.module_utils._written import put


def _found(path: Path) -> list[str]:
    try:
        return fingerprints(path.read_bytes())
    except (FileNotFoundError, MigError):
        return []


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "fingerprint": {"type": "str", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    url, path = module.params["url"], Path(module.params["path"])
    wanted = [module.params["fingerprint"].replace(" ", "").upper()]
    if _found(path) == wanted:
        module.exit_json(changed=False, fingerprints=wanted)
    try:
        key = open_url(url, timeout=30, http_agent="gpufleet.mig").read().decode()
        got = fingerprints(key.encode())
    except (OSError, UnicodeDecodeError, MigError) as error:
        module.fail_json(msg=f"The repository's key could not be had from {url}: {error} Nothing was changed.")
    if got != wanted:
        module.fail_json(
            msg=f"{url} has the key {', '.join(got)} and {wanted[0]} is expected. Nothing was changed. Find out from "
            "the publisher which one is right before you change the expected fingerprint."
        )
    if not module.check_mode:
        put(module, str(path), key)
    module.exit_json(changed=True, fingerprints=got)


if __name__ == "__main__":
    main()
