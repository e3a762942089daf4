# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation fragment of what plans or applies a layout."""

from __future__ import annotations


class ModuleDocFragment:
    """The layout, presets of the user's own, and what becomes of GPUs that it does not name."""

    DOCUMENTATION = r"""
options:
  layout:
    description:
      - What is wanted, either the name of a preset or a list of entries. V(null) leaves the host alone.
      - An entry selects GPUs with C(gpus) and says what each of them shall be with C(instances), C(mig) or C(preset).
      - C(gpus) is V(all), V(rest), an index, a list of indices, a range such as V(0-3), or a mapping with C(index),
        C(uuid), C(pci), C(device_id) (PCI device and vendor id, V(0x233010DE)), C(model) and C(count), which must all
        hold. With C(count), the GPUs that are disturbed least are picked.
      - GPUs that an entry with C(optional=true) names and the host lacks are passed over, else they are an error. An
        entry with C(override=true) takes its GPUs from the entries before it, else a GPU selected twice is an error.
        C(name) is a text for messages.
      - C(instances) is a mapping of profiles to counts, or a list of mappings with C(profile), and optionally C(start)
        (a memory slice) and C(compute_instances) (a list of profiles).
      - C(mig) is V(enabled) (without instances, the GPU becomes empty) or V(disabled).
      - Presets are V(all-disabled), V(all-enabled), V(all-balanced), V(all-PROFILE) (as many as fit), and those of
        O(layouts).
    type: raw
    required: true
  layouts:
    description: Presets of your own, each the name of another preset or a list of entries.
    type: dict
    default: {}
  unlisted_gpus:
    description: What happens to MIG-capable GPUs that no entry selects.
    type: str
    choices: [keep, disable, fail]
    default: keep
"""
