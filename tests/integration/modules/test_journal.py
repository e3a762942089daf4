# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a change in progress and the lock of a host."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._journal import Journal, left_behind


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal.json")


def test_only_root_can_read_it(journal: Journal) -> None:
    with journal.locked():
        journal.write([{"index": 0, "uuid": "GPU-0"}])
    for path in journal.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_gives_back_what_was_written_until_it_is_removed(journal: Journal) -> None:
    with journal.locked():
        assert journal.read() is None
        journal.write([{"index": 3, "before": {"instances": []}}])
        found = journal.read()
        assert found is not None
        assert found["gpus"] == [{"index": 3, "before": {"instances": []}}]
        assert "GPU 3" in left_behind(found)
        journal.remove()
        assert journal.read() is None
        journal.remove()  # nothing there: nothing to complain about


def test_a_journal_cut_short_is_reported_and_does_not_stop_a_run(journal: Journal) -> None:
    with journal.locked():
        journal.write([])
    journal.path.write_text(json.dumps({"gpus": []})[:-3])
    found = journal.read()
    assert found == {"unreadable": True}
    assert "cannot be read" in left_behind(found)


def test_two_changes_of_one_host_exclude_each_other(journal: Journal) -> None:
    with journal.locked(), pytest.raises(MigError, match="Another run is changing the GPUs"), journal.locked():
        pytest.fail("locked twice")
    with journal.locked():
        assert journal.read() is None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "journal.json")
    said = r"journal .*file/journal\.json.* cannot be written.* Nothing was changed"
    with pytest.raises(MigError, match=said), journal.locked():
        pytest.fail("locked in a place that is no folder")
