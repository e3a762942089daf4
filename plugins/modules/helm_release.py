#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module helm_release: one Helm release, changed only where something differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release
short_description: Keep a Helm release as wanted
version_added: "0.1.0"
description:
  - Installs, upgrades, rolls back and uninstalls a Helm release with the C(helm) binary, version 3.13 or newer and 4.x.
  - Nothing is done, and no revision is made, when chart, values and rendered manifest are those of the deployed
    release, all its objects exist and its custom resource definitions are current.
  - Keeps the custom resource definitions of the chart's C(crds) folders up to date, which helm itself only installs.
  - A release that an interrupted helm left pending is put right first.
  - Waits until DaemonSets, Deployments and StatefulSets are rolled out and tells which pod is not ready and why.
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  name:
    description: Name of the release.
    type: str
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  create_namespace:
    description: Make the namespace where it does not exist.
    type: bool
    default: false
  state:
    description:
      - V(present) installs or upgrades where something differs.
      - V(absent) uninstalls; custom resource definitions stay.
      - V(rollback) goes back to O(revision), unless what is deployed equals it.
    type: str
    choices: [present, absent, rollback]
    default: present
  chart:
    description:
      - A chart directory or C(.tgz) on the machine that runs the module, an C(oci://) reference, the URL of an
        archive, or the name of a chart in O(repo).
    type: str
  repo:
    description: URL of the chart repository that O(chart) is a name in.
    type: str
  version:
    description:
      - Exact version of the chart. Required where the chart is fetched, so that each run installs the same one.
      - A local chart of another version is refused.
    type: str
  checksum:
    description:
      - C(sha256:) and the SHA-256 in hexadecimal of the chart's archive. An archive with another one is refused before
        anything of it is used, wherever it came from.
      - A chart directory has none and is refused.
    type: str
  plain_http:
    description: Fetch the chart from a registry that speaks HTTP only.
    type: bool
    default: false
  values:
    description:
      - All user values. Values of an earlier revision are not kept.
      - They reach helm through its standard input, not through a file or its command line.
    type: dict
    default: {}
  secret_values:
    description: Values merged over O(values) that must not appear in any output.
    type: dict
    default: {}
  update_crds:
    description: Apply the custom resource definitions of the chart (server-side apply) where they differ.
    type: bool
    default: true
  revision:
    description: Revision to roll back to.
    type: int
  wait:
    description:
      - Wait until the workloads of the release are rolled out, also when nothing was changed.
      - DaemonSet pods on nodes that are not Ready are not waited for; the module warns of them.
    type: bool
    default: true
  timeout:
    description: Seconds to wait, for each hook of the chart and for the roll-out.
    type: int
    default: 300
  stuck_after:
    description:
      - Seconds after which a release that helm marked pending counts as left behind by a helm that died. Until then
        the module waits for the other helm. Set it above the longest wait of others who work on the same release.
    type: int
    default: 60
  helm_binary:
    description: The helm binary, where it is not the C(helm) of the PATH.
    type: path
extends_documentation_fragment:
  - gpufleet.mig.kubeconfig
  - gpufleet.mig.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff holds the rendered objects that differ. Values in Secrets are hidden.
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.node_publishers
"""

EXAMPLES = r"""
- name: NVIDIA's device plugin from its repository
  gpufleet.mig.helm_release:
    name: nvidia-device-plugin
    namespace: nvidia-device-plugin
    create_namespace: true
    chart: nvidia-device-plugin
    repo: https://nvidia.github.io/k8s-device-plugin
    version: 0.20.0
    values:
      gfd: {enabled: true}
      runtimeClassName: nvidia
  delegate_to: localhost
  run_once: true

- name: Back to revision 3
  gpufleet.mig.helm_release:
    name: nvidia-device-plugin
    namespace: nvidia-device-plugin
    state: rollback
    revision: 3
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
actions:
  description: What was done; in check mode, what would be done.
  returned: success
  type: list
  elements: str
  sample: ["upgrade nvidia-device-plugin: values differ; 1 object(s) differ: DaemonSet nvidia-device-plugin (apps/v1)"]
release:
  description: The release at the end (in check mode, as it is); null where there is none.
  returned: success
  type: dict
  sample: {name: nvidia-device-plugin, namespace: nvidia-device-plugin, revision: 4, status: deployed,
    chart: nvidia-device-plugin-0.20.0, app_version: 0.20.0}
helm_version:
  description: Version of the helm binary that was used.
  returned: success
  type: str
  sample: "4.2"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _kube, _lock, _manifests, _release
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._helm import ChartSource, Helm

ARGUMENT_SPEC: dict[str, Any] = {
    **_kube.ARGUMENT_SPEC,
    **_lock.ARGUMENT_SPEC,
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "create_namespace": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent", "rollback"], "default": "present"},
    "chart": {"type": "str"},
    "repo": {"type": "str"},
    "version": {"type": "str"},
    "checksum": {"type": "str"},
    "plain_http": {"type": "bool", "default": False},
    "values": {"type": "dict", "default": {}},
    "secret_values": {"type": "dict", "default": {}, "no_log": True},
    "update_crds": {"type": "bool", "default": True},
    "revision": {"type": "int"},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 300},
    "stuck_after": {"type": "int", "default": 60},
    "helm_binary": {"type": "path"},
}


def main() -> None:
    """Read, compare, act, report."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", "present", ["chart"]), ("state", "rollback", ["revision"])],
    )
    params = module.params
    check = module.check_mode
    source = None
    if params["chart"]:
        source = ChartSource(
            params["chart"], params["repo"], params["version"], params["plain_http"], params["checksum"]
        )
    wanted = _release.Wanted(
        name=params["name"],
        namespace=params["namespace"],
        chart=source,
        values=_manifests.merge(params["values"], params["secret_values"]),
        create_namespace=params["create_namespace"],
        update_crds=params["update_crds"],
        wait=params["wait"],
        timeout=params["timeout"],
        stuck_after=params["stuck_after"],
    )
    try:
        kube = _kube.Kube(params["kubeconfig"], params["context"])
        keep = _lock.keeper(kube, params["lock"], dry=check)
        helm = Helm(params["helm_binary"], wanted.namespace, params["kubeconfig"], params["context"], keep)
        if params["state"] == "present":
            outcome = _release.ensure_present(helm, kube, wanted, check_mode=check)
        elif params["state"] == "absent":
            outcome = _release.ensure_absent(helm, wanted, check_mode=check)
        else:
            outcome = _release.ensure_revision(helm, kube, wanted, params["revision"], check_mode=check)
        release = _release.describe(helm, wanted, outcome, check_mode=check)
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(
        changed=outcome.changed,
        actions=outcome.actions,
        release=release,
        helm_version=".".join(map(str, helm.version)),
        diff=_manifests.difference(outcome.before, outcome.after),
    )


if __name__ == "__main__":
    main()
