# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules as programs of their own: run as ansible-core's developers' guide says, and on the oldest Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible
import pynvml
import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import MODULES, ROOT

OLDEST = "python3.9"
BARE = "/usr/bin/python3"
"""The system's interpreter, which has no pynvml."""
COLLECTION = str(ROOT / ".tree")


def oldest_python() -> str | None:
    """Python 3.9 on PATH or among pyenv's, None where there is none."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/*/bin/{OLDEST}"))
    return str(found[-1]) if found else shutil.which(OLDEST)


def run_alone(
    python: str, module: str, arguments: dict[str, Any], folder: Path, environment: dict[str, str], before: str = ""
) -> subprocess.CompletedProcess[str]:
    """The module in a mount namespace with a /var/lib of its own: the journal is where it is by default."""
    file = folder / "args.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    command = f"mount -t tmpfs none /var/lib && {before} exec {python} -m {MODULES}.{module} {file}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, env=environment, check=False
    )


def test_only_the_layout_is_needed(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host("a100-sxm4-40gb")
    environment = {**host.environment, "PYTHONPATH": COLLECTION}
    done = run_alone(sys.executable, "mig_layout", {"layout": "all-1g.5gb"}, tmp_path, environment)
    answer = json.loads(done.stdout)
    assert answer["changed"], done.stderr
    assert done.returncode == 0
    assert len(host.uuids()) == 7


@pytest.mark.skipif(oldest_python() is None, reason=f"this machine has no {OLDEST}")
def test_on_the_oldest_python(make_host: MakeHost, tmp_path: Path) -> None:
    """pynvml comes from the collection's private folder here, as the roles put it there."""
    host = make_host("a100-sxm4-40gb", {"product": "h100-sxm5-80gb", "mig": "enabled"})
    (tmp_path / "ansible").symlink_to(Path(ansible.__file__).parent)
    environment = {**host.environment, "PYTHONPATH": f"{COLLECTION}:{tmp_path}"}
    private = "/usr/local/lib/gpufleet-mig"
    install = f"mkdir -m 0755 {private} && install -m 0644 {pynvml.__file__} {private}"
    before = f"mount -t tmpfs none /usr/local/lib && {install} &&"
    layout = [{"gpus": 0, "instances": {"3g.20gb": 1, "1g.5gb": 2}}, {"gpus": 1, "preset": "all-balanced"}]
    calls: list[tuple[str, dict[str, Any], bool]] = [
        ("mig_layout", {"layout": layout}, True),
        ("mig_layout", {"layout": layout}, False),
        ("mig_mode", {"mode": "disabled", "destroy_instances": True}, True),
        ("mig_info", {}, False),
    ]
    for module, arguments, changed in calls:
        done = run_alone(str(oldest_python()), module, arguments, tmp_path, environment, before)
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        assert answer.get("changed") is changed, answer.get("msg", done.stderr)
    assert host.uuids() == {}


def test_a_pynvml_that_others_could_write_is_not_used(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host("a100-sxm4-40gb")
    (tmp_path / "ansible").symlink_to(Path(ansible.__file__).parent)
    environment = {**host.environment, "PYTHONPATH": f"{COLLECTION}:{tmp_path}"}
    private = "/usr/local/lib/gpufleet-mig"
    before = f"mount -t tmpfs none /usr/local/lib && mkdir {private} && install -m 0666 {pynvml.__file__} {private} &&"
    done = run_alone(BARE, "mig_info", {}, tmp_path, environment, before)
    answer = json.loads(done.stdout)
    assert answer["failed"]
    assert f"{private}/pynvml.py is not used: others than root could write it" in answer["msg"]


def test_no_library_on_the_host(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    environment["PYTHONPATH"] = COLLECTION
    done = run_alone(sys.executable, "mig_layout", {"layout": "all-1g.5gb"}, tmp_path, environment)
    answer = json.loads(done.stdout)
    assert answer["failed"]
    assert "libnvidia-ml.so.1 is not found on this host: install the NVIDIA driver" in answer["msg"]
    assert done.returncode == 1
