# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""inventory_vars as Ansible runs it: variables go in, everything else in the files stays to the letter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import run_module

pytestmark = pytest.mark.slow  # a module process and an Ansible process each

LAYOUT = [
    {"gpus": "0-2", "instances": [{"profile": "1g.10gb", "start": 0}, {"profile": "2g.20gb", "start": 2}]},
    {"gpus": [3, 5], "mig": "disabled"},
]
WANTED: dict[str, Any] = {"mig_layout": LAYOUT, "mig_strategy": "mixed"}
OLD = """---
# Rack 7
ansible_host: 10.0.0.7   # by hand
token: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  3035

limits: &limits
  - {a: 1}
other: *limits
"""


def put(folder: Path, *, check: bool = False, overwrite: bool = False, **hosts: Any) -> dict[str, Any]:
    return run_module("inventory_vars", check=check, path=str(folder), hosts=hosts, overwrite=overwrite)


LOADER = """
import json, sys
from ansible.parsing.dataloader import DataLoader
loader, found = DataLoader(), {}
for path in loader.find_vars_files(*sys.argv[1:]):
    found.update(loader.load_from_file(path))
print(json.dumps({key: value for key, value in found.items() if key.startswith("mig_")}))
"""


def loaded(folder: Path, host: str) -> dict[str, Any]:
    """The mig_ variables that Ansible itself loads for a host.

    In a process of its own: with the controller's code loaded, modules that other tests run in theirs behave otherwise.
    """
    command = [sys.executable, "-c", LOADER, str(folder), host]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def test_four_steps_with_a_new_file(tmp_path: Path) -> None:
    folder = tmp_path / "host_vars"
    first = put(folder, check=True, a=WANTED)
    assert first["changed"] is True
    assert not folder.exists()
    assert "  - gpus: 0-2\n    instances:\n      - {profile: 1g.10gb, start: 0}\n" in first["diff"][0]["after"]
    assert put(folder, a=WANTED)["hosts"] == {"a": {"action": "written", "files": [str(folder / "a.yml")]}}
    assert loaded(folder, "a") == WANTED
    for check in (False, True):
        again = put(folder, check=check, a=WANTED)
        assert (again["changed"], again["hosts"]["a"]["action"]) == (False, "same")


@pytest.mark.parametrize("name", ["a.yml", "a.yaml", "a"])
def test_what_else_stands_in_the_file_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(OLD)
    assert put(tmp_path, a=WANTED)["hosts"]["a"]["files"] == [str(tmp_path / name)]
    assert (tmp_path / name).read_text().startswith(OLD)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert loaded(tmp_path, "a")["mig_layout"] == LAYOUT


def test_another_layout_is_kept_unless_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    text = OLD.replace("limits:", "mig_layout:\n  - gpus: all\n    mig: enabled\n\n# of the owner\nlimits:")
    file.write_text(text)
    assert put(tmp_path, a=WANTED)["hosts"]["a"] == {"action": "kept", "files": []}
    assert file.read_text() == text
    assert put(tmp_path, overwrite=True, a=WANTED)["hosts"]["a"]["action"] == "written"
    now = file.read_text()
    assert now.startswith(text[: text.index("mig_layout")])
    assert "\n\n# of the owner\nlimits: &limits\n  - {a: 1}\nother: *limits\nmig_strategy: mixed\n" in now
    assert "mig: enabled" not in now
    assert loaded(tmp_path, "a")["mig_layout"] == LAYOUT


def test_a_strategy_of_the_owner_stays(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("mig_strategy: single\n")
    put(tmp_path, a=WANTED)
    assert loaded(tmp_path, "a") == {**WANTED, "mig_strategy": "single"}


def test_a_folder_gets_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3035\n")
    (tmp_path / "a" / "main.yml").write_text(OLD)
    assert put(tmp_path, a=WANTED)["hosts"]["a"]["files"] == [str(tmp_path / "a" / "mig.yml")]
    assert (tmp_path / "a" / "main.yml").read_text() == OLD
    (tmp_path / "a" / "z.yml").write_text("mig_layout: all-enabled\n")  # loaded last, so it is the one that counts
    (tmp_path / "a" / "mig.yml").unlink()
    assert put(tmp_path, a=WANTED)["hosts"]["a"]["action"] == "kept"
    put(tmp_path, overwrite=True, a={"mig_layout": LAYOUT})
    assert (tmp_path / "a" / "z.yml").read_text().startswith("mig_layout:\n  - gpus: 0-2\n")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yml", "$ANSIBLE_VAULT;1.1;AES256\n3035\n", "encrypted"),
        ("a.json", '{"ansible_host": "10.0.0.7"}', "JSON"),
        ("a.yml", "- 1\n", "not one YAML mapping"),
        ("a.yml", "a: 1\n---\nb: 2\n", "not one YAML mapping"),
        ("a.yml", "a: [\n", "no YAML"),
        ("a.yml", "a: 1\n...\n", "no YAML|safely|not one"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_refused_for_all(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / name).write_text(text)
    answer = put(tmp_path, _first=WANTED, a=WANTED, z=WANTED)
    assert answer["failed"]
    assert "host a cannot be written" in answer["msg"]
    assert str(tmp_path / name) in answer["msg"]
    assert any(part in answer["msg"] for part in why.split("|"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == text


def test_a_layout_that_others_refer_to_is_refused(tmp_path: Path) -> None:
    text = "mig_layout: &mine\n  - {gpus: all, mig: enabled}\nold: *mine\n"
    (tmp_path / "a.yml").write_text(text)
    assert put(tmp_path, overwrite=True, a=WANTED)["failed"]
    assert (tmp_path / "a.yml").read_text() == text
