# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of a host as files for node_exporter's textfile collector: one of what stands, one of the last change."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Gpu = dict[str, Any]
Sample = tuple[dict[str, str], float]

LAYOUT_FILE = "gpufleet_mig_layout.prom"
APPLY_FILE = "gpufleet_mig_apply.prom"


def layout_metrics(gpus: Sequence[Gpu], digest: str, drift: bool) -> str:
    """What stands: the digest of the wanted layout, whether anything differs from it, and the instances."""
    instances: list[Sample] = []
    for gpu in gpus:
        counts = Counter(str(instance["profile"]) for instance in gpu["instances"])
        where = {"gpu": str(gpu["index"]), "uuid": str(gpu["uuid"])}
        instances += [({**where, "profile": profile}, count) for profile, count in sorted(counts.items())]
    return (
        _family("gpufleet_mig_layout_info", "The digest of the layout that is wanted.", [({"digest": digest}, 1)])
        + _family("gpufleet_mig_layout_drift", "1 where anything differs from the layout.", [({}, int(drift))])
        + _family("gpufleet_mig_instances", "GPU instances by GPU and profile.", instances)
    )


def apply_metrics(success: bool) -> str:
    """How and when the last change of this host ended."""
    return _family(
        "gpufleet_mig_last_apply_success", "1 where the last change reached its layout.", [({}, int(success))]
    ) + _family("gpufleet_mig_last_apply_timestamp_seconds", "When it ended.", [({}, round(time.time(), 3))])


def _family(name: str, text: str, samples: Sequence[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(f"{name}{'{' + inside + '}' if inside else ''} {value}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def keep(folder: str | None, name: str, text: str) -> list[str]:
    """Put the file into node_exporter's folder, whole or not at all. What kept it from that is a sentence and no error:
    the GPUs matter more. Without a folder nothing is written."""
    if not folder:
        return []
    target = Path(folder) / name
    draft = target.with_name(f".{name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        return [_lost(target, str(error))]
    return []


def missing(folder: str | None) -> list[str]:
    """The same sentence beforehand, of a folder that is not there."""
    return [_lost(Path(folder, LAYOUT_FILE), "no such folder")] if folder and not Path(folder).is_dir() else []


def _lost(target: Path, why: str) -> str:
    return (
        f"{os.uname().nodename}: the metrics {target} cannot be written ({why}): make the folder of node_exporter's "
        "textfile collector, or set mig_metrics_dir to it."
    )
