# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation fragment: how a controller-side module reaches a Kubernetes API."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module with access to a cluster shares."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig file on the machine that runs the module (the controller, in most plays through
        C(delegate_to)).
      - Without it the file that E(KUBECONFIG) names is used, else C(~/.kube/config), else the service account of the
        pod that the module runs in.
    type: path
  context:
    description: Context of the kubeconfig. Without it the current one of the file.
    type: str
requirements:
  - python >= 3.11
  - kubernetes >= 28 (the Python client)
"""
