# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Product tables for the simulated NVML, and a stub for each NVML function that it does not implement.

Profiles whose id, size or places no source gives are not offered. Shares no code with the collection's own generator.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml


def text(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"'


def compute_rows(profile: dict[str, Any], product: dict[str, Any]) -> list[str]:
    rows = []
    for row in product.get("ci_profiles", {}).get(profile["name"], []):
        index = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4, 8: 5, 6: 6}[row["slices"]]
        processors = row["sm"]
        if processors is None:  # no source: the share of the GPU instance's multiprocessors
            processors = profile["sm"] * row["slices"] // profile["slices"]
        rows.append(f"{{{row['id']}, {index}, {row['slices']}, {row['count']}, {processors}}}")
    return rows


def profile_row(profile: dict[str, Any], product: dict[str, Any]) -> str | None:
    places = profile.get("placements") or {}
    needed = (profile["id"], profile.get("sm"), profile.get("memory_mib"), places.get("size"), places.get("starts"))
    if any(value is None for value in needed):
        return None
    compute = compute_rows(profile, product)
    starts = ", ".join(map(str, places["starts"]))
    numbers = [
        profile["nvml_profile_index"], profile["id"], profile["slices"], profile["count"], profile["sm"],
        profile["memory_mib"], *(profile.get(key) or 0 for key in ("ce", "dec", "enc", "jpeg", "ofa")),
        places["size"], len(places["starts"]),
    ]  # fmt: skip
    listed = ", ".join(map(str, numbers))
    return f"{{{text(profile['name'])}, {listed}, {{{starts}}}, {len(compute)}, {{{', '.join(compute)}}}}}"


def product_row(product: dict[str, Any]) -> str | None:
    """A board, None where no source gives its name, architecture or memory: it cannot be simulated."""
    if any(product.get(key) is None for key in ("name", "nvml_arch", "memory_mib", "memory_slices")):
        return None
    rows = [row for profile in product["gi_profiles"] if (row := profile_row(profile, product))]
    major, minor = product["compute_capability"].split(".")
    ids = product["pci_device_ids"] or ["0x000010DE"]
    numbers = [
        ids[0], product["nvml_arch"], major, minor, product["memory_mib"], product["memory_slices"],
        product["max_instances"] or 0, int(product["mode_change"]["needs_gpu_reset"]), len(rows),
    ]  # fmt: skip
    profiles = ",\n   ".join(rows)
    return f"  {{{text(product['key'])}, {text(product['name'])}, {', '.join(map(str, numbers))},\n   {{{profiles}}}}},"


def plain_row(board: dict[str, Any]) -> str:
    """A board that cannot do MIG."""
    major, minor = board["compute_capability"].split(".")
    numbers = [board["pci_device_id"], board["nvml_arch"], major, minor, board["memory_mib"], 0, 0, 0, 0]
    return f"  {{{text(board['key'])}, {text(board['name'])}, {', '.join(map(str, numbers))}, {{}}}},"


def faultable(sources: list[Path]) -> list[str]:
    """Functions that go through the frame of a call, in which faults and delays happen."""
    found = set()
    for source in sources:
        code = source.read_text()
        bodies = re.findall(r"^nvmlReturn_t (\w+)\([^)]*\)\n\{\n(.*?)^\}", code, re.M | re.S)
        found |= {name for name, body in bodies if "ENTER(" in body}
        found |= set(re.findall(r"^PROCESS_LIST\((nvml\w+),", code, re.M))
    return sorted(found)


def stubs(header: str, sources: list[Path]) -> str:
    names = set(re.findall(r"nvmlReturn_t\s+DECLDIR\s+(nvml\w+)\s*\(", header))
    written = set()
    for source in sources:
        written |= set(re.findall(r"^(?:PROCESS_LIST\(|\w[\w *]*?\b)(nvml\w+)[(,]", source.read_text(), re.M))
    lines = ["/* Generated: what the simulation does not know is not supported, as on a board without the feature. */"]
    lines += [f"int {name}(void);\nint {name}(void) {{ return 3; }}" for name in sorted(names - written)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--boards", type=Path, required=True)
    parser.add_argument("--header", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    products = yaml.safe_load(arguments.products.read_text())["products"]
    rows = [row for product in products if (row := product_row(product))]
    rows += [plain_row(board) for board in yaml.safe_load(arguments.boards.read_text())["boards"]]
    (arguments.out / "products.inc").write_text("\n".join(rows) + "\n")
    names = "\n".join(f'"{name}",' for name in faultable(arguments.sources))
    (arguments.out / "functions.inc").write_text(names + "\n")
    header = arguments.header.read_text(encoding="utf-8", errors="replace")
    (arguments.out / "stubs.c").write_text(stubs(header, arguments.sources))


if __name__ == "__main__":
    main()
