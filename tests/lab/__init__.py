# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Tests that run on the lab, and the lab itself (lab.py)."""
