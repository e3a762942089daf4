#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Command line of the lab: python3 tests/lab/lab.py --help."""

from __future__ import annotations

import sys
from pathlib import Path

# The folder of this script would hide the package `lab` behind the script `lab.py`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab.gpufleet_lab.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
