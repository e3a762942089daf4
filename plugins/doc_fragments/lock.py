# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation fragment: a module that works for a roll-out and keeps its lock meanwhile."""

from __future__ import annotations


class ModuleDocFragment:
    """The options C(lock) and C(wave)."""

    DOCUMENTATION = r"""
options:
  lock:
    description:
      - The roll-out lock that M(gpufleet.mig.rollout_lock) returned. It is renewed at the start and while the module
        waits, and the module fails without changing anything further when it was lost.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Lease.
        type: str
        required: true
      name:
        description: Name of the Lease.
        type: str
        default: gpufleet-rollout
      holder:
        description: Who must hold it.
        type: str
        required: true
      duration:
        description: Seconds without renewal after which another run may take it.
        type: float
        default: 300
  wave:
    description: Number of the roll-out's wave, for the lines under RV(ignore:gpufleet).
    type: int
"""
