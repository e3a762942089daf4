# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU of a host gets which wish of the layout; {count: n} picks the GPUs that are disturbed least, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import Entry, Wish, read_layout, shown
from ansible_collections.gpufleet.mig.plugins.module_utils._selectors import (
    is_mig_capable,
    is_rest,
    select,
    wanted_count,
)

Gpu = dict[str, Any]
Cost = tuple[int, ...]
Disturbance = Callable[[Gpu, "Wish | None"], Cost]
"""How much a GPU is disturbed by a wish; compared like a number, added element by element. May raise LayoutError."""

UNFIT = 1 << 20
"""A first cost element for a GPU that a wish cannot be applied to: more than any number of GPUs that it could be."""


def assign(
    gpus: Sequence[Gpu], layout: Any, presets: Mapping[str, Any], unlisted: str, disturbance: Disturbance
) -> dict[int, Wish]:
    """The wish of each GPU by its index; GPUs to be left alone are missing. `gpus` are in the order of their index."""
    leave = Wish(False, (), None, "setting for unlisted GPUs") if unlisted == "disable" else None
    wishes = _spread(gpus, read_layout(layout, presets), presets, leave, disturbance)
    left = [gpu for gpu in gpus if gpu["index"] not in wishes and is_mig_capable(gpu)]
    if left and unlisted == "fail":
        indices = ", ".join(str(gpu["index"]) for gpu in left)
        raise LayoutError(
            f"No entry of the layout selects GPU {indices}, and unlisted GPUs are set to fail: add an entry for them "
            "(gpus: rest), or let unlisted GPUs be kept or disabled."
        )
    return wishes if leave is None else {**{gpu["index"]: leave for gpu in left}, **wishes}


def _spread(
    gpus: Sequence[Gpu],
    entries: Sequence[Entry],
    presets: Mapping[str, Any],
    leave: Wish | None,
    disturbance: Disturbance,
) -> dict[int, Wish]:
    """Apply entries to these GPUs as if there were no others."""
    owners: dict[int, Entry] = {}
    chosen: list[tuple[Entry, list[Gpu]]] = []
    for entry in entries:
        counts = wanted_count(entry.gpus, entry.label) is not None
        if entry.override and (counts or is_rest(entry.gpus)):
            raise LayoutError(f"The {entry.label} takes what other entries leave, so it cannot override them.")
        if entry.optional and counts:
            raise LayoutError(f"The {entry.label} wants a number of GPUs, so it cannot be optional.")
        if counts or is_rest(entry.gpus):
            continue
        found = select(entry.gpus, gpus, entry.label, missing_ok=entry.optional)
        _claim(owners, entry, found)
        chosen.append((entry, found))
    rest = [entry for entry in entries if is_rest(entry.gpus)]
    if len(rest) > 1:
        raise LayoutError(f"The {rest[0].label} and the {rest[1].label} both take the rest; only one can.")
    counted = [entry for entry in entries if not is_rest(entry.gpus) and wanted_count(entry.gpus, entry.label)]
    free = [gpu for gpu in gpus if gpu["index"] not in owners]
    if counted:
        fate = _surely_uniform(rest[0], presets, "beside entries that count") if rest else leave
        # else the rest hits no GPU
        some_left = bool(rest) and not rest[0].optional and fate is not None and fate.enabled
        for entry, found in _pick(gpus, free, counted, presets, fate, disturbance, some_left=some_left):
            _claim(owners, entry, found)
            chosen.append((entry, found))
    for entry in rest:
        chosen.append((entry, [gpu for gpu in free if gpu["index"] not in owners and is_mig_capable(gpu)]))
    wishes: dict[int, Wish] = {}
    for entry, found in chosen:
        if not found and gpus and entry.gpus in ("all", "rest"):
            wish = uniform(entry, presets)
            if wish is not None and not wish.enabled:  # a GPU without MIG has it disabled
                continue
        if not found and not entry.optional:
            raise LayoutError(f"The {entry.label} hits no GPU{_why_none(gpus, owners, entry)}.")
        mine = [gpu for gpu in found if owners.get(gpu["index"], entry) is entry]  # others went to overriding entries
        if entry.wish is not None:
            wishes.update({gpu["index"]: entry.wish for gpu in mine})
        elif mine:
            wishes.update(_spread(mine, _inside(entry, presets), presets, leave, disturbance))
    return wishes


def _inside(entry: Entry, presets: Mapping[str, Any]) -> list[Entry]:
    name = str(entry.preset)
    return read_layout(presets[name], presets, f"preset {name!r}", (name,))


def _claim(owners: dict[int, Entry], entry: Entry, found: Sequence[Gpu]) -> None:
    for gpu in found:
        other = owners.get(gpu["index"])
        if other is not None and not entry.override:
            raise LayoutError(
                f"GPU {gpu['index']} is selected twice: by the {other.label} and by the {entry.label}; leave it out of "
                "one of them, or say override: true in the later one.",
                gpu=gpu["index"],
            )
        owners[gpu["index"]] = entry


def _why_none(gpus: Sequence[Gpu], owners: Mapping[int, Entry], entry: Entry) -> str:
    if not gpus:
        return ": there is none"
    if entry.gpus == "all" or not any(is_mig_capable(gpu) for gpu in gpus):
        return f": none of {', '.join(sorted({str(gpu.get('name')) for gpu in gpus}))} can do MIG"
    return ": other entries take all of them" if len(owners) >= len(gpus) else ""


def uniform(entry: Entry, presets: Mapping[str, Any]) -> Wish | None:
    """The one wish that an entry has for each GPU, whichever it gets; None where its preset tells GPUs apart."""
    while entry.wish is None:
        inner = _inside(entry, presets)
        if len(inner) != 1 or inner[0].gpus != "all":
            return None
        entry = inner[0]
    return entry.wish


def _surely_uniform(entry: Entry, presets: Mapping[str, Any], where: str) -> Wish:
    wish = uniform(entry, presets)
    if wish is None:
        raise LayoutError(
            f"The {entry.label} uses the preset {entry.preset!r} {where}; there it must say the same for all GPUs.",
            preset=entry.preset,
        )
    return wish


def _pick(
    gpus: Sequence[Gpu],
    free: Sequence[Gpu],
    counted: Sequence[Entry],
    presets: Mapping[str, Any],
    fate: Wish | None,
    disturbance: Disturbance,
    *,
    some_left: bool,
) -> list[tuple[Entry, list[Gpu]]]:
    """The GPUs of each {count: n} entry: least disturbance over all of `free`, GPUs left over included; ties by index.

    `fate` is what happens to a GPU that none of them picks; with `some_left` there must be one, if that can be. The
    order in which entries are written does not matter.
    """
    wishes = {id(entry): _surely_uniform(entry, presets, "with a count of GPUs") for entry in counted}
    counted = sorted(counted, key=lambda entry: _order(entry, wishes[id(entry)]))
    numbers = tuple(wanted_count(entry.gpus, entry.label) or 0 for entry in counted)
    costs: list[dict[int, Cost]] = [{} for _gpu in free]
    for number, entry in enumerate(counted):
        wish = wishes[id(entry)]
        others = {key: value for key, value in entry.gpus.items() if key != "count"}
        able = {gpu["index"] for gpu in (select(others, gpus, entry.label) if others else free)}
        refusals = []
        for mine, gpu in zip(costs, free):
            if gpu["index"] not in able or (wish.enabled and not is_mig_capable(gpu)):
                continue
            try:
                mine[number] = disturbance(gpu, wish)
            except LayoutError as error:  # this model cannot do it; another may
                refusals.append(error)
        fit = sum(number in each for each in costs)
        if fit < numbers[number]:
            if refusals:
                raise refusals[0]
            raise LayoutError(
                f"The {entry.label} wants {numbers[number]} GPUs, but only {fit} that it could take are free."
            )
    # a GPU without MIG is no part of the rest: it stays as it is
    left = [_cost_of(gpu, fate if is_mig_capable(gpu) else None, disturbance) for gpu in free]
    picks = _cheapest(costs, left, numbers)
    capable = [at for at, gpu in enumerate(free) if is_mig_capable(gpu)]
    if some_left and picks is not None and all(picks[at] is not None for at in capable):
        picks = _cheapest_sparing(costs, left, numbers, capable) or picks
    if picks is None:
        total = sum(numbers)
        labels = " and the ".join(entry.label for entry in counted)
        raise LayoutError(f"The {labels} want {total} GPUs together, more than are free and fit each of them.")
    return [(entry, [gpu for gpu, pick in zip(free, picks) if pick == number]) for number, entry in enumerate(counted)]


def _order(entry: Entry, wish: Wish) -> tuple[Any, ...]:
    """What decides between equally good choices: what the entry says, not where it stands in the list."""
    instances = sorted(repr(instance) for instance in wish.instances)
    return shown(entry.gpus), wish.enabled, wish.built_in or "", instances, entry.label


def _cost_of(gpu: Gpu, fate: Wish | None, disturbance: Disturbance) -> Cost:
    try:
        return disturbance(gpu, fate)
    except LayoutError:  # if it must be left over all the same, planning it says why
        return (UNFIT, *disturbance(gpu, None)[1:])


def _cheapest(
    costs: Sequence[dict[int, Cost]], left: Sequence[Cost], numbers: tuple[int, ...]
) -> list[int | None] | None:
    """The entry of each GPU that costs least in total, None where there are too few GPUs."""
    return _cheapest_of_one(costs, left, numbers[0]) if len(numbers) == 1 else _cheapest_of_all(costs, left, numbers)


def _cheapest_sparing(
    costs: Sequence[dict[int, Cost]], left: Sequence[Cost], numbers: tuple[int, ...], capable: Sequence[int]
) -> list[int | None] | None:
    """The same with at least one of the GPUs `capable` left over, None where that cannot be."""
    found = []
    for one in capable:
        picks = _cheapest([{} if at == one else mine for at, mine in enumerate(costs)], left, numbers)
        if picks is not None:
            found.append((_total(costs, left, picks), _lowest_first(picks), picks))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _total(costs: Sequence[dict[int, Cost]], left: Sequence[Cost], picks: Sequence[int | None]) -> Cost:
    parts = (over if pick is None else mine[pick] for mine, over, pick in zip(costs, left, picks))
    return tuple(map(sum, zip(*parts)))


def _lowest_first(picks: Sequence[int | None]) -> list[tuple[bool, int]]:
    """What puts picks in order among equally cheap ones: the first GPU gets the first entry, rather than none."""
    return [(pick is None, pick or 0) for pick in picks]


def _cheapest_of_one(costs: Sequence[dict[int, Cost]], left: Sequence[Cost], number: int) -> list[int | None] | None:
    """One entry: the GPUs where having it instead of being left over costs least."""
    gains = sorted((_minus(mine[0], left[at]), at) for at, mine in enumerate(costs) if 0 in mine)
    taken = {at for _gain, at in gains[:number]}
    return [0 if at in taken else None for at in range(len(costs))] if len(taken) == number else None


def _cheapest_of_all(
    costs: Sequence[dict[int, Cost]], left: Sequence[Cost], numbers: tuple[int, ...]
) -> list[int | None] | None:
    """Several entries: walk the GPUs from the last; a step's [still] is the least cost with `still` of each to place.

    The lowest index decides ties, as the walk back from the first GPU takes the first entry that keeps the optimum.
    """
    steps: list[dict[tuple[int, ...], Cost]] = [{(0,) * len(numbers): (0,) * len(left[0])}]
    for mine, over in zip(reversed(costs), reversed(left)):
        best: dict[tuple[int, ...], Cost] = {}
        for still, cost in steps[-1].items():
            options = [(still, over)]
            for number, own in mine.items():
                if still[number] < numbers[number]:
                    options.append(((*still[:number], still[number] + 1, *still[number + 1 :]), own))
            for state, own in options:
                total = _plus(cost, own)
                if state not in best or total < best[state]:
                    best[state] = total
        steps.append(best)
    if numbers not in steps[-1]:
        return None
    picks: list[int | None] = []
    still = numbers
    for at, mine in enumerate(costs):
        target, rest = steps[len(costs) - at][still], steps[len(costs) - at - 1]
        for pick, own in [*sorted(mine.items()), (None, left[at])]:
            after = still if pick is None else (*still[:pick], still[pick] - 1, *still[pick + 1 :])
            if after in rest and _plus(rest[after], own) == target:
                picks.append(pick)
                still = after
                break
    return picks


def _plus(one: Cost, other: Cost) -> Cost:
    return tuple(a + b for a, b in zip(one, other))


def _minus(one: Cost, other: Cost) -> Cost:
    return tuple(a - b for a, b in zip(one, other))
