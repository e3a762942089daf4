# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A real Kubernetes cluster with simulated GPU hosts on one machine."""
