# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated hosts of the module tests, for playbooks."""

from __future__ import annotations

from integration.modules.conftest import make_host

__all__ = ["make_host"]
