#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module runtime_class: the RuntimeClass of NVIDIA's runtime in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_class
short_description: Keep a RuntimeClass in a cluster
version_added: "0.1.0"
description:
  - Creates the RuntimeClass by which pods ask for a runtime of their node. One that is there with the same handler is
    left alone, whoever made it; its other settings stay.
  - One that this module makes has the label C(app.kubernetes.io/managed-by=gpufleet.mig).
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  name:
    description: Name of the RuntimeClass.
    type: str
    default: nvidia
  handler:
    description: Name of the runtime in the container runtime's configuration. Kubernetes never changes that of one.
    type: str
    default: nvidia
  state:
    description:
      - V(absent) removes one that this module made, unless a pod of the cluster names it. Then it stays, with a
        warning.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
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
- name: Let pods ask for the runtime nvidia
  gpufleet.mig.runtime_class:
    kubeconfig: ~/.kube/config
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
handler: {description: The handler that the RuntimeClass has, returned: when O(state=present), type: str}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _pods
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

_PATH = "/apis/node.k8s.io/v1/runtimeclasses"
_OURS = {"app.kubernetes.io/managed-by": "gpufleet.mig"}


def _user(kube: _kube.Kube, name: str) -> str | None:
    """The first pod of the cluster that names the class and has not ended; it could not be made anew without it."""
    pods = (pod for pod in kube.items(_kube.pods_path(None)) if pod["spec"].get("runtimeClassName") == name)
    return next((_pods.full_name(pod) for pod in pods if not _pods.is_finished(pod)), None)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_kube.ARGUMENT_SPEC,
            "name": {"type": "str", "default": "nvidia"},
            "handler": {"type": "str", "default": "nvidia"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    name, handler = module.params["name"], module.params["handler"]
    body = {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": name, "labels": _OURS}, "handler": handler,
    }  # fmt: skip
    try:
        kube = _kube.Kube(module.params["kubeconfig"], module.params["context"])
        found = kube.find(f"{_PATH}/{name}")
        changes = (found is None) == (module.params["state"] == "present")
        if found and module.params["state"] == "present" and found["handler"] != handler:
            raise MigError(
                f"RuntimeClass {name} has handler {found['handler']}, {handler} is wanted, and Kubernetes does not "
                "change it. Use another name, or delete the RuntimeClass when no pod uses it. Nothing was changed."
            )
        if found and module.params["state"] == "absent":
            changes = _OURS.items() <= (found["metadata"].get("labels") or {}).items()
            user = _user(kube, name) if changes else None
            if user:
                changes = False
                module.warn(f"RuntimeClass {name} stays: pod {user} names it.")
        if changes and not module.check_mode:
            if module.params["state"] == "present":
                kube.create(_PATH, body)
            else:
                kube.delete(f"{_PATH}/{name}")
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    module.exit_json(changed=changes, **({"handler": handler} if module.params["state"] == "present" else {}))


if __name__ == "__main__":
    main()
