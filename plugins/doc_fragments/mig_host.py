# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation fragments of the modules that run on GPU hosts."""

from __future__ import annotations


class ModuleDocFragment:
    """What modules that only read need, and the options of those that change GPUs."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - python >= 3.9
  - NVIDIA driver with C(libnvidia-ml.so.1)
  - nvidia-ml-py >= 12.535 (the Python module C(pynvml)), or its C(pynvml.py) in C(/usr/local/lib/gpufleet-mig)
"""

    CHANGE = r"""
options:
  mode_changes:
    description:
      - How a GPU may get its MIG mode where setting it is not enough. A GPU of the Hopper generation or newer takes it
        at once; an older one has to be reset, and does so by itself when it is idle.
      - V(reset) allows C(nvidia-smi --gpu-reset) for the GPUs that did not take their mode.
      - V(reboot) allows leaving the mode pending; RV(reboot_required) is then true, and after the reboot another run
        creates the instances.
      - V(set_back) allows undoing a mode that is only pending.
      - A change that needs a way that is not listed is refused before anything is touched.
    type: list
    elements: str
    choices: [reset, reboot, set_back]
    default: [reset, reboot, set_back]
  parallel:
    description: Change the GPUs at the same time, one thread per GPU. Otherwise one after the other.
    type: bool
    default: true
  journal:
    description:
      - File that says what stood and what is wanted while a change goes on. It is removed when the result has been read
        back and compared. A file of the same name that ends in C(.lock) keeps two changes of one host apart.
    type: path
    default: /var/lib/gpufleet-mig/journal.json
"""
