#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module node_cleanup: take away what was left on nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_cleanup
short_description: Take away what publishers, roll-outs and reboots left on nodes
version_added: "0.1.0"
description:
  - For uninstalling, and for pods that a reboot left. A node that the cluster does not have has nothing left.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  nodes:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  parts:
    description:
      - V(strategy) is the label that picks the device plugin's configuration.
      - V(features) are the labels that GPU feature discovery set. They go once no pod of the publishers is on these
        nodes any more.
      - V(marks) are labels, annotations and the taint with the prefix C(gpufleet.io/). A node that a run left cordoned
        becomes schedulable or not, as that run found it.
      - V(refused_pods) are GPU pods that the kubelet refused (phase C(Failed), reason C(UnexpectedAdmissionError)), as
        it does after a reboot. They never ran, and nothing else removes them.
    type: list
    elements: str
    choices: [strategy, features, marks, refused_pods]
    required: true
  namespace:
    description: Namespace of the publishers' pods. An empty string looks in all namespaces.
    type: str
    default: nvidia-device-plugin
  timeout:
    description: Seconds to wait until these pods are gone.
    type: float
    default: 120
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.helm_release
  - module: gpufleet.mig.node_publishers
"""

EXAMPLES = r"""
- name: Leave nothing on two nodes
  gpufleet.mig.node_cleanup:
    nodes: [gpu-01, gpu-02]
    parts: [strategy, features, marks]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
nodes:
  description: What was (in check mode, would be) taken away, per node name.
  returned: success
  type: dict
  sample: {gpu-01: {labels: [nvidia.com/device-plugin.config], annotations: [gpufleet.io/target], pods: [shop/web-1]}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _cleanup, _kube
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    "nodes": {"type": "list", "elements": "str", "required": True},
    "parts": {"type": "list", "elements": "str", "choices": list(_cleanup.PARTS), "required": True},
    "namespace": {"type": "str", "default": "nvidia-device-plugin"},
    "timeout": {"type": "float", "default": 120},
}


def main() -> None:
    """Look, take away, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    try:
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        done = _cleanup.clean(
            kube,
            params["nodes"],
            params["parts"],
            params["namespace"] or None,
            params["timeout"],
            dry=module.check_mode,
        )
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    before = [
        f"node {name}: {what}\n"
        for name, left in done.items()
        for what in [*left.labels, *left.annotations, *(f"pod {pod}" for pod in left.pods)]
    ]
    module.exit_json(
        changed=any(left.patch or left.pods for left in done.values()),
        nodes={
            name: {"labels": left.labels, "annotations": left.annotations, "pods": left.pods}
            for name, left in done.items()
        },
        diff={"before": "".join(before), "after": ""},
    )


if __name__ == "__main__":
    main()
