# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files of nvidia-mig-parted (version v1) as layouts, and layouts as such files. Pure: no I/O, no YAML.

What v1 means is taken from nvidia-mig-parted itself (NVIDIA/mig-parted bd7160f: api/spec/v1, pkg/mig/config):

* The entries of a configuration are walked in order and each is applied to the GPUs that it matches. Where two match
  one GPU the later one wins; where they differ in mig-enabled nvidia-mig-parted fails, and so does the planner.
* A device filter or an index that matches no GPU is passed over in silence: `optional: true` in a layout.
* mig-devices counts compute instances. Parts of a GPU instance (1c.3g.20gb) are put into the GPU instance that was
  made last while they fit, then into a new one; orders are tried until one works.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ansible_collections.gpufleet.mig.plugins.module_utils._assignment import uniform
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import Entry, WantedInstance, read_layout, shown
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import ProfileName
from ansible_collections.gpufleet.mig.plugins.module_utils._selectors import DEVICE_ID, indices_of

VERSION = "v1"
KEYS = ("device-filter", "devices", "mig-enabled", "mig-devices")


@dataclass(frozen=True)
class Row:
    """One entry of a v1 configuration. `devices` None is all, `filters` () is no filter; `alone`: written as one text.

    `counts` are compute instances by profile, without zeros.
    """

    filters: tuple[str, ...]
    alone: bool
    devices: tuple[int, ...] | None
    enabled: bool
    counts: dict[str, int]

    def may_meet(self, other: Row) -> bool:
        """Whether both can match the same GPU, as far as the file tells."""
        mine, theirs = ({one.lower() for one in row.filters} for row in (self, other))
        same_board = not mine or not theirs or bool(mine & theirs)
        return same_board and (
            self.devices is None or other.devices is None or bool(set(self.devices) & set(other.devices))
        )


def from_mig_parted(spec: Any, config: str | None = None, file: str | None = None) -> list[dict[str, Any]]:
    """The layout that a configuration of a v1 file (read from YAML) means; without a name, that of its only one.

    As in nvidia-mig-parted the whole file must be right, not only this configuration. LayoutError says what is not.
    """
    where = file or "The mig-parted file"
    configs = _configs(spec, where)
    if config is None and len(configs) == 1:
        config = next(iter(configs))
    if config not in configs:
        near = difflib.get_close_matches(str(config), configs, n=3, cutoff=0.4)
        advice = f"did you mean {' or '.join(near)}?" if near else f"name one of {', '.join(configs)}."
        lack = "has several configurations" if config is None else f"has no configuration {shown(config)}"
        raise LayoutError(f"{where} {lack}: {advice}", nearest=near)
    rows, name = configs[config], f"{config} of {file}" if file else config
    return [
        _entry(row, rows[:number], f"{where}, configuration {config}, entry {number + 1}", name)
        for number, row in enumerate(rows)
    ]


def to_mig_parted(layouts: Any, presets: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A v1 file (to be written as YAML or JSON) with one configuration for each of the named layouts.

    `presets` are the user's own ones that the layouts refer to. LayoutError says what v1 has no words for.
    """
    if not isinstance(layouts, Mapping) or not layouts:
        raise LayoutError(f"A mig-parted file is made from a mapping of names to layouts, not from {shown(layouts)}.")
    known = {**(presets or {}), **layouts}
    return {"version": VERSION, "mig-configs": {str(name): _config(name, known) for name in layouts}}


# reading v1


def _configs(spec: Any, file: str) -> dict[str, list[Row]]:
    if not isinstance(spec, Mapping):
        raise LayoutError(f"{file} is {shown(spec)}; it must be a mapping with version and mig-configs.")
    version = spec.get("version")
    if version != VERSION:
        has = f"has the version {shown(version)}" if "version" in spec else "has no version"
        raise LayoutError(f"{file} {has}; only version: {VERSION} can be read.")
    unknown = [str(key) for key in spec if key not in ("version", "mig-configs")]
    if unknown:
        raise LayoutError(f"{file} has the unknown key {', '.join(unknown)}; remove it (v1 has mig-configs).")
    configs = spec.get("mig-configs")
    if not isinstance(configs, Mapping) or not configs:
        raise LayoutError(f"{file} has no configurations; add at least one to mig-configs.")
    return {str(name): _rows(entries, f"{file}, configuration {name}") for name, entries in configs.items()}


def _rows(entries: Any, where: str) -> list[Row]:
    if not isinstance(entries, Sequence) or isinstance(entries, (str, bytes)) or not entries:
        raise LayoutError(f"{where}: its entries are {shown(entries)}; write a list with at least one.")
    return [_row(entry, f"{where}, entry {number}") for number, entry in enumerate(entries, 1)]


def _row(raw: Any, where: str) -> Row:
    if not isinstance(raw, Mapping):
        raise LayoutError(f"{where} is {shown(raw)}; write a mapping of {', '.join(KEYS)}.")
    unknown = [str(key) for key in raw if key not in KEYS]
    if unknown:
        raise LayoutError(f"{where} has the unknown key {', '.join(unknown)}; v1 knows {', '.join(KEYS)}.")
    for key in ("devices", "mig-enabled"):
        if key not in raw:
            raise LayoutError(f"{where} does not say {key}: add it.")
    enabled = raw["mig-enabled"]
    if not isinstance(enabled, bool):
        raise LayoutError(f"{where} says mig-enabled: {shown(enabled)}; write true or false.")
    if enabled and raw.get("mig-devices") is None:
        raise LayoutError(f"{where} has mig-enabled: true without mig-devices; add them ({{}} leaves the GPU empty).")
    counts = _counts(raw.get("mig-devices") or {}, where)
    if counts and not enabled:
        raise LayoutError(f"{where} has mig-devices with mig-enabled: false; remove one of the two.")
    alone = isinstance(raw.get("device-filter"), str)
    return Row(_filters(raw.get("device-filter"), where), alone, _devices(raw["devices"], where), enabled, counts)


def _filters(raw: Any, where: str) -> tuple[str, ...]:
    values = [raw] if isinstance(raw, str) and raw else raw or []
    if not isinstance(values, Sequence) or not all(isinstance(value, str) for value in values):
        raise LayoutError(f'{where} has device-filter: {shown(raw)}; write PCI ids in quotes, such as "0x20B010DE".')
    for value in values:
        if not DEVICE_ID.fullmatch(value):
            why = " (subsystem ids are not known of a GPU here)" if ":" in value else ""
            raise LayoutError(f'{where} filters by the device id {value}{why}; write it as "0x20B010DE".')
    return tuple(values)


def _devices(raw: Any, where: str) -> tuple[int, ...] | None:
    if raw == "all":
        return None
    is_list = isinstance(raw, Sequence) and not isinstance(raw, (str, bytes))
    if not is_list or not raw or not all(_is_number(index) for index in raw):
        remedy = f"[{raw}]" if _is_number(raw) else "a list of GPU indices such as [0, 1]"
        raise LayoutError(f"{where} has devices: {shown(raw)}; write all or {remedy}.")
    return tuple(dict.fromkeys(raw))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(raw: Any, where: str) -> dict[str, int]:
    if not isinstance(raw, Mapping):
        raise LayoutError(f"{where} has mig-devices: {shown(raw)}; write counts, such as {{1g.5gb: 7}}.")
    for profile, count in raw.items():
        parsed = ProfileName.parse(profile) if isinstance(profile, str) else None
        if parsed is None:
            raise LayoutError(f"{where} wants {shown(profile)}, which is no profile's name; write it as 1g.5gb.")
        if parsed.compute is not None and parsed.compute > parsed.slices:
            raise LayoutError(f"{where} wants {profile}, which has more compute slices than its GPU instance.")
        if not _is_number(count):
            raise LayoutError(f"{where} wants {shown(count)} of {profile}; write a number from 0 on.")
    if raw and not any(raw.values()):
        raise LayoutError(f"{where} counts 0 of every profile; write mig-devices: {{}} for an empty GPU.")
    return {profile: count for profile, count in raw.items() if count}


def _entry(row: Row, before: Sequence[Row], where: str, name: str) -> dict[str, Any]:
    """A row as an entry of a layout; `before` are the rows above it, which it overrides where both match."""
    met = [other for other in before if other.may_meet(row)]
    override = any(other.enabled == row.enabled for other in met)
    if override and any(other.enabled != row.enabled for other in met):
        raise LayoutError(
            f"{where} contradicts an entry above it in mig-enabled for GPUs that both match, where nvidia-mig-parted "
            "fails; leave those GPUs out of one of them."
        )
    entry: dict[str, Any] = {"name": name, "gpus": _selector(row)}
    if entry["gpus"] != "all":
        entry["optional"] = True
    if override:
        entry["override"] = True
    if row.counts:
        return {**entry, "instances": _instances(row.counts)}
    return {**entry, "mig": "enabled" if row.enabled else "disabled"}


def _selector(row: Row) -> Any:
    if not row.filters:
        return "all" if row.devices is None else list(row.devices)
    selector: dict[str, Any] = {"device_id": row.filters[0] if row.alone else list(row.filters)}
    return selector if row.devices is None else {**selector, "index": list(row.devices)}


def _instances(counts: Mapping[str, int]) -> Any:
    """Counts as they are, or a list where GPU instances are shared by compute instances."""
    whole, shared = _packed(counts)
    if not shared:
        return whole
    placed: list[dict[str, Any]] = [{"profile": profile} for profile, count in whole.items() for _one in range(count)]
    for profile, inside in shared:
        placed.append({"profile": profile, "compute_instances": [f"{slices}c.{profile}" for slices in inside]})
    return placed


def _packed(counts: Mapping[str, int]) -> tuple[dict[str, int], list[tuple[str, tuple[int, ...]]]]:
    """How many GPU instances are filled by one compute instance, and the compute slices inside the others.

    The largest first, each into the first GPU instance with room: on every board this gives the grouping that
    nvidia-mig-parted arrives at, as no board takes more than two GPU instances with more than two compute slices.
    """
    whole: dict[str, int] = {}
    parts: dict[str, list[int]] = {}
    for name, count in counts.items():
        parsed = ProfileName.parse(name)
        if parsed is None or parsed.compute is None:
            whole[name] = whole.get(name, 0) + count
            continue
        profile = name.split("c.", 1)[1]
        if parsed.compute == parsed.slices:
            whole[profile] = whole.get(profile, 0) + count
        else:
            parts.setdefault(profile, []).extend([parsed.compute] * count)
    shared: list[tuple[str, tuple[int, ...]]] = []
    for profile, sizes in parts.items():
        parsed = ProfileName.parse(profile)
        room = parsed.slices if parsed else 0
        filled: list[list[int]] = []
        for size in sorted(sizes, reverse=True):
            place = next((inside for inside in filled if sum(inside) + size <= room), None)
            if place is None:
                filled.append([size])
            else:
                place.append(size)
        shared += [(profile, tuple(inside)) for inside in filled]
    return whole, shared


# writing v1


def _config(name: Any, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    presets = {key: value for key, value in known.items() if key != name}
    rows: list[Row] = []
    for entry in read_layout(known[name], presets, f"layout {name!r}"):
        rows.append(_row_of(entry, presets, rows))
    return [_written(row) for row in rows]


def _row_of(entry: Entry, presets: Mapping[str, Any], before: Sequence[Row]) -> Row:
    wish = uniform(entry, presets)
    if wish is None:
        _no_words(entry, "a preset that tells GPUs apart", "write its entries")
    if wish.built_in not in (None, "all-enabled", "all-disabled"):
        _no_words(entry, f"{wish.built_in}, which is computed for the board", "name the instances")
    filters, alone, devices = _matched(entry)
    row = Row(filters, alone, devices, wish.enabled, _counted(wish.instances, entry) if wish.instances else {})
    if entry.override and any(other.enabled != row.enabled and other.may_meet(row) for other in before):
        _no_words(entry, "another mode than that of an entry above it for the same GPU", "leave it out above")
    return row


def _matched(entry: Entry) -> tuple[tuple[str, ...], bool, tuple[int, ...] | None]:
    """Filters, whether they are one text, and indices (None: all) for what an entry selects."""
    gpus = entry.gpus if isinstance(entry.gpus, Mapping) else {"index": entry.gpus}
    beyond = [str(key) for key in gpus if key not in ("index", "device_id")]
    if beyond or gpus.get("index") == "rest" or not gpus:
        what = ", ".join(beyond) or ("rest" if gpus else "nothing")
        _no_words(entry, f"a selection by {what}", "select by indices or device_id")
    raw = gpus.get("device_id", [])
    filters = [raw] if isinstance(raw, str) else raw
    devices = None if gpus.get("index", "all") == "all" else tuple(indices_of(gpus["index"], entry.label))
    return _filters(filters, f"The {entry.label}"), isinstance(raw, str), devices


def _counted(instances: Sequence[WantedInstance], entry: Entry) -> dict[str, int]:
    """mig-devices for the wanted instances, if nvidia-mig-parted would make the same of them."""
    counts: Counter[str] = Counter()
    shared: list[tuple[str, tuple[int, ...]]] = []
    for wanted in instances:
        parsed = ProfileName.parse(wanted.profile)
        if parsed is None:
            raise LayoutError(
                f"The {entry.label} wants {wanted.profile}, which is no profile's name: write it as 1g.5gb."
            )
        if wanted.start is not None or any(ci.start is not None for ci in wanted.compute or ()):
            _no_words(entry, f"the place of {wanted.profile}", "leave start away")
        if wanted.compute == ():
            _no_words(entry, f"{wanted.profile} without compute instances", "give it some")
        names = [ProfileName.parse(ci.profile) for ci in wanted.compute or ()]
        if None in names:
            raise LayoutError(f"The {entry.label} lists compute instances of {wanted.profile} that are no profiles.")
        inside = tuple(sorted((name.compute or name.slices for name in names if name), reverse=True))
        if inside in ((), (parsed.slices,)):
            counts[wanted.profile] += wanted.count
            continue
        for slices in inside:
            counts[f"{slices}c.{wanted.profile}"] += wanted.count
        shared += [(wanted.profile, inside)] * wanted.count
    if sorted(_packed(counts)[1]) != sorted(shared):
        _no_words(entry, "these groups of compute instances, as v1 only counts them", "fill one GPU instance first")
    return dict(counts)


def _written(row: Row) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if row.filters:
        written["device-filter"] = row.filters[0] if row.alone else list(row.filters)
    written["devices"] = "all" if row.devices is None else list(row.devices)
    written["mig-enabled"] = row.enabled
    return {**written, "mig-devices": row.counts} if row.enabled else written


def _no_words(entry: Entry, what: str, remedy: str) -> NoReturn:
    raise LayoutError(f"The {entry.label} has {what}; a mig-parted file has no words for that: {remedy}.")
