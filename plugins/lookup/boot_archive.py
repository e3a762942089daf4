# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gpufleet-mig packed on the controller, as a lookup."""

from __future__ import annotations

DOCUMENTATION = r"""
name: boot_archive
short_description: The command gpufleet-mig as one file
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Packs what the modules of this collection are made of, and C(pynvml.py) of the controller's C(nvidia-ml-py), into
    one file. A GPU host runs it with Python 3.9 or newer and nothing else.
  - The file lies in the temporary folder of this run of Ansible, which removes it at its end. The same collection and
    C(nvidia-ml-py) always give the same bytes.
options:
  python:
    description: The interpreter in the first line of the file.
    type: str
    default: /usr/bin/python3
"""

EXAMPLES = r"""
- name: Bring the command to the host
  ansible.builtin.copy:
    src: "{{ lookup('gpufleet.mig.boot_archive').path }}"
    dest: /usr/local/sbin/gpufleet-mig
    mode: "0755"
"""

RETURN = r"""
_raw:
  description: One mapping.
  type: list
  elements: dict
  contains:
    path:
      description: Where the file is on the controller.
      type: path
    sha256:
      description: The digest of its bytes.
      type: str
"""

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.gpufleet.mig.plugins.module_utils import _archive


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's way to find the lookup."""

    def run(self, _terms: Sequence[Any], variables: Any = None, **kwargs: Any) -> list[dict[str, str]]:
        """See DOCUMENTATION. AnsibleLookupError where the controller has no pynvml."""
        self.set_options(var_options=variables, direct=kwargs)
        pynvml = importlib.util.find_spec("pynvml")
        if pynvml is None or pynvml.origin is None:
            raise AnsibleLookupError(
                "The controller's Python has no pynvml to bring to the hosts. Install nvidia-ml-py there, or set "
                "mig_boot to false. Nothing was changed."
            )
        packed = _archive.pack(Path(_archive.__file__).parent, Path(pynvml.origin), self.get_option("python"))
        path = Path(constants.DEFAULT_LOCAL_TMP) / "gpufleet-mig.pyz"
        draft = path.with_name(f"{path.name}.{os.getpid()}")  # other hosts of this run may look it up at the same time
        draft.write_bytes(packed)
        draft.replace(path)
        return [{"path": str(path), "sha256": hashlib.sha256(packed).hexdigest()}]
