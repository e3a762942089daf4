# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mig_pynvml_checksum: another pynvml.py on the controller stops the run before any instance goes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pynvml
import pytest
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play

pytestmark = pytest.mark.slow

THERE = Path(pynvml.__file__)
DIGEST = f"sha256:{hashlib.sha256(THERE.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(("wanted", "code"), [("sha256:00", 2), pytest.param(DIGEST, 0, marks=pytest.mark.full)])
def test_only_the_pynvml_that_is_wanted_will_do(tmp_path: Path, make_host: MakeHost, wanted: str, code: int) -> None:
    simulated = make_host({"product": "a100-sxm4-40gb", "mig": "enabled"})
    before = simulated.lines()
    variables = {"mig_layout": "all-balanced", "mig_install_pynvml": True, "mig_pynvml_checksum": wanted}
    # in check mode, because a run that goes on writes into /usr/local/lib
    run = play(tmp_path, "site", {"here": {**on_this_machine(), **variables}}, "--check", simulated=simulated)
    assert run.code == code, run.printed
    said = f"pynvml.py of the controller has {DIGEST}, and mig_pynvml_checksum is sha256:00. Nothing was changed."
    assert (said in " ".join(run.printed.split())) is (code == 2), run.printed
    assert simulated.lines() == before
