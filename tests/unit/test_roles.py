# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What a role says of its variables agrees with what it has, and the documentation lists what inventories may say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
OWN = {"mig_plan", "mig_host", "mig_expected", "mig_applied", "mig_slurm_gres"}  # facts that a run sets


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_the_documented_options(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    entries = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    for entry in entries.values():
        assert set(defaults) == set(entry["options"])
        for name, option in entry["options"].items():
            if "default" in option and "{{" not in str(defaults[name]):
                assert option["default"] == defaults[name]


@pytest.mark.parametrize("role", ROLES)
def test_variables_bear_the_name_of_their_role(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in load(ROOT / "roles" / role / "defaults" / "main.yml"))
    assert (ROOT / "roles" / role / "README.md").read_text().startswith(f"# gpufleet.mig.{role}\n")


def test_every_variable_that_is_read_stands_in_the_table() -> None:
    listed = set(re.findall(r"`(mig_\w+)`", (ROOT / "docs" / "variables.md").read_text()))
    read: set[str] = set()
    for folder in ("roles", "playbooks"):
        for path in (ROOT / folder).rglob("*.yml"):
            if path.parent.name in ("tasks", "defaults", "vars", "main", "playbooks"):
                text = re.sub(r"gpufleet\.mig\.\w+", "", path.read_text())
                read |= set(re.findall(r"(?<![\w.])(mig_[a-z_]+)", text))
    assert read - OWN == listed, (read - OWN) ^ listed
