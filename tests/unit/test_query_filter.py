# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to facts: the documented examples, and what is said about a wrong expression."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from unit.planner_support import gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.filter import query as plugin
from ansible_collections.gpufleet.mig.plugins.filter.query import query

ROOT = Path(__file__).parents[2]


def gpus() -> list[dict[str, Any]]:
    on = gpu("h100-sxm5-80gb", 0)
    return [
        standing(on, instance(on, "1g.10gb", 0, busy=True), instance(on, "3g.40gb", 4)),
        gpu("a100-sxm4-80gb", 1, mode="disabled"),
    ]


def reports() -> list[dict[str, Any]]:
    return [{"host": "gpu-01", "gpus": gpus()}, {"host": "gpu-02", "gpus": gpus()[:1]}]


def test_the_documented_examples() -> None:
    tasks = yaml.safe_load(plugin.EXAMPLES)
    in_message = tasks[0]["ansible.builtin.debug"]["msg"].split("gpufleet.mig.query('")[1].split("')")[0]
    busy, off, pids = [in_message, *(task["vars"]["expression"] for task in tasks[1:])]
    assert query(gpus(), busy) == [0]
    assert query(reports(), off) == ["gpu-01"]
    assert query(reports(), pids) == [{"host": "gpu-01", "pids": [4000]}, {"host": "gpu-02", "pids": [4000]}]


def test_nothing_found_is_null() -> None:
    assert query(gpus(), "[0].nothing") is None
    assert query([], "[].host") == []


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("[?index==1]", "'[?index==1]' cannot be read at column 10, from '1' on: write numbers in backticks."),
        ("host gpus", "'host gpus' cannot be read at column 6, from 'gpus' on."),
        ("[].gpus[", "'[].gpus[' ends too early."),
        ("[?index==`1]", "'[?index==`1]' cannot be read at column 10: Unclosed ` delimiter."),
        ("lenght(@)", "'lenght(@)' fails: Unknown function: lenght()."),
        ("length(@, @)", "'length(@, @)' is wrong: expected 1 argument for function length(), received 2."),
        ("[0].sum(name)", "'[0].sum(name)' fails: In function sum(), invalid type for value: NVIDIA H100 80GB HBM3"),
        ("", "'' fails: Invalid JMESPath expression: cannot be empty."),
    ],
)
def test_a_wrong_expression_is_explained(expression: str, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        query(gpus(), expression)
    message = str(caught.value)
    assert message.startswith(f"The JMESPath expression {sentence}")
    assert "\n" not in message


def test_an_expression_is_text() -> None:
    with pytest.raises(AnsibleFilterError, match="wants a JMESPath expression as text, not 5"):
        query(gpus(), 5)  # type: ignore[arg-type]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "jmespath", None)
    with pytest.raises(AnsibleFilterError, match=r"needs the Python package jmespath .* pip install jmespath"):
        query(gpus(), "[0]")


@pytest.mark.slow
def test_in_templates(tmp_path: Path) -> None:
    """Ansible's own text and list types, as they come from an inventory, in this filter and the mig-parted ones."""
    row = {"devices": [0], "mig-enabled": True, "mig-devices": {"1g.10gb": 7}}
    v1 = {"version": "v1", "mig-configs": {"a": [row]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(v1))
    (tmp_path / "vars.yml").write_text(yaml.safe_dump({"gpus": gpus(), "v1": v1, "here": str(tmp_path)}))
    message = {
        "names": "{{ gpus | gpufleet.mig.query('[?starts_with(name, `NVIDIA H`)].[name, length(name)][]') }}",
        "text": "{{ lookup('ansible.builtin.file', here ~ '/config.yaml') | gpufleet.mig.from_mig_parted('a') }}",
        "back": "{{ {'a': v1 | gpufleet.mig.from_mig_parted} | gpufleet.mig.to_mig_parted }}",
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "ansible.builtin.debug",
         "-a", json.dumps({"msg": message}), "-e", f"@{tmp_path / 'vars.yml'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
             "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = yaml.safe_load(done.stdout.split("=>", 1)[1])["msg"]
    assert shown["names"] == ["NVIDIA H100 80GB HBM3", 21]
    assert shown["text"] == [{"name": "a", "gpus": [0], "optional": True, "instances": {"1g.10gb": 7}}]
    assert shown["back"] == v1
