# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted for one host, as the user wrote it: entries, instances and presets, checked and made uniform.

Everything here is about the text of the layout; which GPUs an entry selects is in _selectors, what a profile name means
on one board in _profiles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import Board, ProfileName

ENTRY_KEYS = ("gpus", "mig", "instances", "preset", "name", "optional", "override")
INSTANCE_KEYS = ("profile", "start", "compute_instances")
COMPUTE_KEYS = ("profile", "start")
BUILT_IN = ("all-balanced", "all-enabled", "all-disabled")


@dataclass(frozen=True)
class WantedCompute:
    """One compute instance: its profile by the user's name, and its first compute slice (None: anywhere)."""

    profile: str
    start: int | None


@dataclass(frozen=True)
class WantedInstance:
    """Some equal GPU instances: profile by the user's name, first memory slice (None: anywhere), and what is inside.

    `compute` None means one compute instance that fills it, () means none.
    """

    profile: str
    start: int | None
    compute: tuple[WantedCompute, ...] | None
    count: int


@dataclass(frozen=True)
class Wish:
    """What one GPU should be. `built_in` is a preset that is computed for the board at hand, else None."""

    enabled: bool
    instances: tuple[WantedInstance, ...]
    built_in: str | None
    label: str


@dataclass(frozen=True)
class Entry:
    """One entry of a layout. Where `preset` is set (the name of the user's own one), `wish` is None.

    `optional`: GPUs that it names and the host lacks are passed over. `override`: it takes GPUs from entries before it.
    """

    gpus: Any
    label: str
    wish: Wish | None
    preset: str | None
    optional: bool = False
    override: bool = False


def read_layout(
    layout: Any, presets: Mapping[str, Any], origin: str = "layout", stack: tuple[str, ...] = ()
) -> list[Entry]:
    """The entries of a layout that is a preset's name or a list; LayoutError where it cannot be read.

    `stack` holds the names of the user's presets that are being read, so that one that refers to itself is found.
    """
    if isinstance(layout, str):
        return [_named("all", layout, presets, f"{origin} {layout!r}" if not stack else f"preset {layout!r}", stack)]
    if not isinstance(layout, Sequence):
        raise LayoutError(f"The {origin} must be the name of a preset or a list of entries, not {shown(layout)}.")
    entries = []
    for number, raw in enumerate(layout, 1):
        entries.append(_entry(raw, presets, f"{origin} entry {number}", stack))
    return entries


def _entry(raw: Any, presets: Mapping[str, Any], label: str, stack: tuple[str, ...]) -> Entry:
    if not isinstance(raw, Mapping):
        raise LayoutError(f"The {label} must be a mapping with gpus and instances, mig or preset, not {shown(raw)}.")
    _only(raw, ENTRY_KEYS, label)
    if "gpus" not in raw:
        raise LayoutError(f"The {label} does not say which GPUs it is for: add gpus (all, rest, [0, 1], ...).")
    gpus, name = raw["gpus"], raw.get("name")
    if name is not None and not isinstance(name, str):
        raise LayoutError(f"The {label} has the name {shown(name)}; a name is text.")
    label = f"{label} ({name}, gpus: {shown(gpus)})" if name else f"{label} (gpus: {shown(gpus)})"
    for flag in ("optional", "override"):
        if not isinstance(raw.get(flag, False), bool):
            raise LayoutError(f"The {label} says {flag}: {shown(raw[flag])}; it can be true or false.")
    entry = _what(gpus, raw, presets, label, stack)
    return replace(entry, optional=raw.get("optional", False), override=raw.get("override", False))


def _what(gpus: Any, raw: Mapping[str, Any], presets: Mapping[str, Any], label: str, stack: tuple[str, ...]) -> Entry:
    """The entry with what it wants of its GPUs: mig and instances, or a preset."""
    mig, instances = raw.get("mig"), raw.get("instances")
    if mig not in (None, "enabled", "disabled"):
        raise LayoutError(f"The {label} says mig: {shown(mig)}; it can be enabled or disabled.")
    if raw.get("preset") is not None:
        if mig is not None or instances is not None:
            raise LayoutError(f"The {label} has a preset and says mig or instances beside it: leave one of them away.")
        return _named(gpus, raw["preset"], presets, label, stack)
    if mig is None and instances is None:
        raise LayoutError(f"The {label} says nothing to do: add instances, mig or preset.")
    wanted = _instances(instances, label) if instances is not None else ()
    if mig == "disabled" and wanted:
        raise LayoutError(f"The {label} wants instances with mig: disabled; remove one of the two.")
    return Entry(gpus, label, Wish(mig != "disabled", wanted, None, label), None)


def _named(gpus: Any, name: Any, presets: Mapping[str, Any], label: str, stack: tuple[str, ...]) -> Entry:
    """An entry that applies a preset. The user's own presets hide ours of the same name."""
    if not isinstance(name, str):
        raise LayoutError(f"The {label} names a preset by {shown(name)}; a preset's name is text.")
    if name in presets:
        if name in stack:
            raise LayoutError(
                f"The presets {' -> '.join([*stack, name])} refer to each other in a circle.", preset=name
            )
        read_layout(presets[name], presets, f"preset {name!r}", (*stack, name))  # only to find what is wrong in it
        return Entry(gpus, label, None, name)
    if name not in BUILT_IN and all_of(name) is None:
        known = ", ".join([*BUILT_IN, "all-PROFILE", *presets])
        raise LayoutError(f"The {label} names the preset {name!r}, which is not one of {known}.", preset=name)
    return Entry(gpus, label, Wish(name != "all-disabled", (), name, label), None)


def all_of(name: str) -> str | None:
    """The profile of a preset all-PROFILE, where a '.' may stand for '+' as in nvidia-mig-parted's names; else None."""
    match = re.fullmatch(r"all-(\d+g\.\d+gb)(.*)", name)
    if match is None:
        return None
    profile = match[1] + (f"+{match[2][1:]}" if match[2].startswith(".") else match[2])
    return profile if ProfileName.parse(profile) else None


def _instances(raw: Any, label: str) -> tuple[WantedInstance, ...]:
    if isinstance(raw, Mapping):
        return tuple(_counted(profile, count, label) for profile, count in raw.items() if count != 0 or count is False)
    if not isinstance(raw, Sequence) or isinstance(raw, (str, bytes)):
        raise LayoutError(
            f"The {label} gives instances as {shown(raw)}; write counts ({{1g.10gb: 7}}) or a list of "
            "{profile, start, compute_instances}."
        )
    return tuple(_placed(item, label) for item in raw)


def _counted(profile: Any, count: Any, label: str) -> WantedInstance:
    _check_name(profile, label)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise LayoutError(f"The {label} wants {shown(count)} instances of {profile}; write a number from 0 on.")
    return WantedInstance(profile, None, None, count)


def _placed(raw: Any, label: str) -> WantedInstance:
    if not isinstance(raw, Mapping) or "profile" not in raw:
        raise LayoutError(f"The {label} lists the instance {shown(raw)}; write it as {{profile: 1g.10gb, start: 0}}.")
    _only(raw, INSTANCE_KEYS, f"{label}, instance {shown(raw['profile'])}")
    profile = raw["profile"]
    _check_name(profile, label)
    start = _start(raw.get("start"), f"{label}, instance {profile}")
    if raw.get("compute_instances") is None:
        return WantedInstance(profile, start, None, 1)
    compute = raw["compute_instances"]
    if not isinstance(compute, Sequence) or isinstance(compute, (str, bytes)):
        raise LayoutError(f"The {label} gives compute_instances of {profile} as {shown(compute)}; write a list.")
    return WantedInstance(profile, start, tuple(_compute(item, profile, label) for item in compute), 1)


def _compute(raw: Any, profile: str, label: str) -> WantedCompute:
    if isinstance(raw, str):
        return WantedCompute(raw, None)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("profile"), str):
        raise LayoutError(
            f"The {label} lists the compute instance {shown(raw)} of {profile}; write its profile's name."
        )
    _only(raw, COMPUTE_KEYS, f"{label}, compute instance {raw['profile']}")
    return WantedCompute(raw["profile"], _start(raw.get("start"), f"{label}, compute instance {raw['profile']}"))


def _check_name(profile: Any, label: str) -> None:
    """Refuse what is no text, and compute-instance profiles where a GPU-instance profile is wanted."""
    if not isinstance(profile, str):
        raise LayoutError(f"The {label} names a profile by {shown(profile)}; a profile's name is text such as 1g.10gb.")
    parsed = ProfileName.parse(profile)
    if parsed is not None and parsed.compute is not None:
        bare = profile.split("c.", 1)[1]
        raise LayoutError(
            f"The {label} wants {profile}, which is a compute instance inside a GPU instance: write "
            f"{{profile: {bare}, compute_instances: [{profile}]}}.",
            profile=profile,
        )


def _start(value: Any, label: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise LayoutError(f"The {label} starts at {shown(value)}; a start is the number of a slice, from 0 on.")


def _only(raw: Mapping[str, Any], allowed: Sequence[str], label: str) -> None:
    unknown = [str(key) for key in raw if key not in allowed]
    if unknown:
        raise LayoutError(f"The {label} has the unknown key {', '.join(unknown)}; known are {', '.join(allowed)}.")


def shown(value: Any) -> str:
    """A value of the user's as it looks in YAML flow style, short enough for a sentence."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        text = "[" + ", ".join(shown(item) for item in value) + "]"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def built_in_instances(name: str, board: Board, who: str) -> tuple[WantedInstance, ...]:
    """What a preset of ours means on one board. LayoutError where the board has no such row."""
    if name in ("all-enabled", "all-disabled"):
        return ()
    if name == "all-balanced":
        return tuple(WantedInstance(profile, None, None, count) for profile, count in _balanced(board, who))
    profile = all_of(name) or name
    found = board.find(profile)
    return (WantedInstance(profile, None, None, found.most if found else 1),)


def _balanced(board: Board, who: str) -> list[tuple[str, int]]:
    """nvidia-mig-parted's all-balanced: 2 x 1g, 2g, 3g with seven compute slices; 2 x 1g, 2g with four."""
    rows = {7: {1: 2, 2: 1, 3: 1}, 4: {1: 2, 2: 1}}.get(max(profile.slices for profile in board.profiles))
    if rows is None:
        raise LayoutError(f"{who}: all-balanced is not defined for this board; name the instances instead.")
    plain = {}
    for profile in sorted(board.profiles, key=lambda profile: profile.size, reverse=True):
        if not profile.attributes:
            plain[profile.slices] = profile.name  # the smallest of its slices: 1g.10gb, not the double-memory 1g.20gb
    return [(plain[slices], count) for slices, count in rows.items()]
