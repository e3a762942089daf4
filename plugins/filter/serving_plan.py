# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of Triton replicas on the partitions of a cluster, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: serving_plan
short_description: How many Triton replicas fit on which partitions, and what would fail
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Counts free devices, gives groups with C(fill) their number of replicas, and checks models and groups, all before
    anything is deployed.
  - Pods of the release itself do not count as occupying a device, they make room for their successors.
positional: nodes, models
options:
  _input:
    description:
      - The groups, each with C(name), C(resource), C(replicas) or C(fill), and maybe C(count), C(nodes), C(models),
        C(memory_mib) and C(autoscaling), as the role P(gpufleet.mig.triton#role) documents them.
    type: list
    elements: dict
    required: true
  nodes:
    description: C(nodes) of M(gpufleet.mig.node_gpu_info), read with C(pods=true).
    type: dict
    required: true
  models:
    description: C(models) of M(gpufleet.mig.triton_models_info). Without it models are not checked.
    type: dict
  image:
    description: Name of the image, for messages.
    type: str
    default: the image
  backends:
    description: Backends that the image has.
    type: list
    elements: str
    default: []
  namespace:
    description: Namespace of the release.
    type: str
    default: triton
  release:
    description: Name of the release.
    type: str
    default: triton
"""

EXAMPLES = r"""
- name: See what would be deployed
  ansible.builtin.debug:
    msg: "{{ [{'name': 'small', 'resource': 'nvidia.com/mig-1g.10gb', 'fill': true}]
      | gpufleet.mig.serving_plan(shown.nodes) }}"
  # => {"groups": [{"name": "small", ..., "replicas": 7}], "values": [...], "problems": []}
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    groups:
      description: The groups; those with C(fill) have their C(replicas).
      type: list
      elements: dict
    values:
      description: The groups as the chart of the role takes them.
      type: list
      elements: dict
    problems:
      description: One sentence per thing that would fail; empty where nothing is known to.
      type: list
      elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import _serving


def serving_plan(
    groups: Iterable[Mapping[str, Any]],
    nodes: Mapping[str, Any],
    models: Mapping[str, Any] | None = None,
    *,
    image: str = "the image",
    backends: Iterable[str] = (),
    namespace: str = "triton",
    release: str = "triton",
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    what = _serving.Image(image, tuple(backends))
    plan = _serving.plan_serving(groups, models, what, nodes, _serving.Ours(namespace, release))
    return {"groups": plan.groups, "values": plan.chart_groups(), "problems": plan.problems}


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"serving_plan": serving_plan}
