# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The built artifact, installed into an empty folder, does the demo without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab.conftest import LAB, ROOT, PlayResult


def test_site_runs_from_the_installed_collection(converged: PlayResult, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories" / "demo", inventory)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "installed"), "GPUFLEET_LAB_DIR": str(LAB)}
    # The lab's chart stands where the official one may: no part of the collection.
    environment["GPUFLEET_LAB_OFFICIAL_CHART"] = str(ROOT / "tests" / "lab" / "chart" / "nvidia-device-plugin")

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT))
    (archive,) = tmp_path.glob("gpufleet-mig-*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", "installed", str(archive))
    assert (tmp_path / "installed/ansible_collections/gpufleet/mig/MANIFEST.json").exists()
    shown = run("ansible-playbook", "-i", str(inventory), "gpufleet.mig.site")
    assert shown.count("verified") == 4
    assert "NOT VERIFIED" not in shown
    assert all("changed=0" in line for line in shown.splitlines() if " : ok=" in line), shown[-1500:]
