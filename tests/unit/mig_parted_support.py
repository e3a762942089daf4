# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's published configurations, and what nvidia-mig-parted does with one, written down from its own code.

Nothing of the collection is used here: what a configuration leads to comes from walking its entries as
cmd/nvidia-mig-parted/assert/assert.go does, and how compute instances share GPU instances from trying orders as
pkg/mig/config/config.go does (NVIDIA/mig-parted bd7160f).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unit.planner_support import PLANNABLE, PRODUCTS, Gpu, gpu

PUBLISHED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "mig_parted_configs.json").read_text("utf-8")
)
BOARD_OF_ID = {number: key for key in PLANNABLE for number in PRODUCTS[key]["pci_device_ids"]}


def published() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where it is published, name, the configuration as in the fixture)."""
    for config in PUBLISHED["configurations"]:
        files = "+".join(PUBLISHED["sources"][number]["path"].rsplit("/", 1)[-1] for number in config["in"])
        yield f"{config['name']} in {files}", config["name"], config


def as_v1(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as the only one of a v1 file."""
    rows = []
    for entry in config["entries"]:
        row = {"device-filter": entry["filter"]} if "filter" in entry else {}
        row |= {"devices": entry.get("devices", "all"), "mig-enabled": entry["want"] is not None}
        rows.append(row if entry["want"] is None else {**row, "mig-devices": entry["want"]})
    return {"version": "v1", "mig-configs": {name: rows}}


def boards_of(config: Mapping[str, Any]) -> list[str]:
    """What a configuration is for: device ids by its filters, or products by its file's heading or its profiles' names.

    The display GPU of a DGX Station (0x1FB010DE), which has no MIG, is left out.
    """
    entries = config["entries"]
    filters = [entry["filter"] for entry in entries if "filter" in entry]
    if filters:
        ids = [one for each in filters for one in ([each] if isinstance(each, str) else each)]
        return [one for one in ids if one != "0x1FB010DE"]
    names = {profile for entry in entries for profile in entry["want"] or {}}
    return config.get("boards") or (
        [key for key in PLANNABLE if names <= set(by_name(key))]
        or [key for key in PLANNABLE if names <= set(by_name(key)) | set(aliases(key))]
    )


def by_name(key: str) -> list[str]:
    return [row["name"] for row in PRODUCTS[key]["gi_profiles"]]


def aliases(board: str) -> dict[str, str]:
    """Names of other drivers whose meaning the facts give as a present name; `board` is a product or a device id."""
    key = BOARD_OF_ID.get(board, board)
    given = PRODUCTS[key].get("profile_name_aliases") or {}
    return {alias: meaning.split()[0] for alias, meaning in given.items() if meaning.split()[0] in by_name(key)}


def host_of(*boards: str, **mode: Any) -> list[Gpu]:
    """A host with these GPUs, each a product or a device id."""
    return [
        {**gpu(BOARD_OF_ID[board], index, **mode), "pci_device_id": board}
        if board in BOARD_OF_ID
        else gpu(board, index, **mode)
        for index, board in enumerate(boards)
    ]


def walked(rows: list[dict[str, Any]], host: list[Gpu]) -> dict[int, dict[str, int] | None]:
    """What nvidia-mig-parted leaves on each GPU that a row matches: counts, or None for MIG off. The last row wins."""
    result: dict[int, dict[str, int] | None] = {}
    for row, on in itertools.product(rows, host):
        filters = row.get("device-filter") or []
        filters = [filters] if isinstance(filters, str) else filters
        capable = on["mig_mode"]["current"] != "unsupported"
        if filters and on["pci_device_id"].lower() not in [one.lower() for one in filters]:
            continue
        if on["index"] not in row["devices"] if row["devices"] != "all" else not capable:
            continue
        result[on["index"]] = row["mig-devices"] if row["mig-enabled"] else None
    return result


def stands(on: Gpu) -> dict[str, int]:
    """Compute instances of a GPU by profile, as nvidia-mig-parted counts them."""
    return dict(Counter(ci["profile"] for instance in on["instances"] for ci in instance["compute_instances"]))


def grouped(sizes: list[int], slices: int, most: int) -> list[tuple[int, ...]] | None:
    """Compute instances in GPU instances after the first order of creation that works; None where none does.

    Each is put into the GPU instance made last, or into a new one while the board takes one more.
    """
    for order in dict.fromkeys(itertools.permutations(sorted(sizes, reverse=True))):
        made: list[list[int]] = []
        for size in order:
            if made and sum(made[-1]) + size <= slices:
                made[-1].append(size)
            else:
                made.append([size])
        if len(made) <= most:
            return sorted(tuple(sorted(inside)) for inside in made)
    return None
