# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What a roll-out says of itself: progress lines, the callback that prints them, the report, and drift."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.planner_support import gpu, instance

from ansible_collections.gpufleet.mig.plugins.callback.rollout_progress import CallbackModule
from ansible_collections.gpufleet.mig.plugins.module_utils import _drift, _progress, _rollout_report
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

HOSTS = [f"gpu-{number:02}" for number in range(1, 13)]
BLOCKER = {"kind": "pod", "name": "shop/web", "why": "budget", "reason": "may not go", "remedy": "add a replica"}


def at(second: int) -> str:
    return f"2026-11-25T10:{second // 60:02}:{second % 60:02}+00:00"


def record(host: str = "gpu-07") -> dict[str, Any]:
    return _rollout_report.begin(host, HOSTS, [1, "25%", "100%"], at(0))


# progress


def test_one_line_says_wave_node_phase_and_times() -> None:
    progress = _progress.Progress()
    for host in HOSTS:
        assert progress.feed(_rollout_report.line(record(host)), 0) is None
    for number, host in enumerate(HOSTS[:6]):
        done = _rollout_report.advance(record(host), "done", {}, at(40))
        assert "done after" in str(progress.feed(_rollout_report.line(done), 40.0 * (number + 1)))
    evicting = _rollout_report.advance(record(), "evicting", {}, at(240))
    said = progress.feed(_rollout_report.line(evicting, ["shop/a", "shop/b"]), 250)
    # 6 of 12 took 250 s, so 6 more take as long
    assert said == "[wave 3/3] node 7/12 gpu-07 evicting 2 pods (4 min 10 s elapsed, about 4 min left)"


def test_lines_of_modules_are_printed_only_where_something_is_in_the_way() -> None:
    progress = _progress.Progress()
    progress.feed(_rollout_report.line(record()), 0)
    assert progress.feed(_progress.line("gpu-07", "failed", seconds=1), 1) is None
    said = progress.feed(_progress.line("gpu-07", "taken", blockers=[BLOCKER], error="no"), 2)
    assert said == "[wave 3/3] node 7/12 gpu-07 blocked: shop/web may not go (2 s elapsed)"
    assert progress.feed(_progress.line("gpu-99", "taken", blockers=[BLOCKER]), 2) is None, "not of this roll-out"


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert _progress.duration(seconds) == text


# the callback


@pytest.fixture
def printed() -> dict[str, list[str]]:
    return {"display": [], "warning": []}


def callback(display: dict[str, list[str]], path: Path) -> Any:
    made = CallbackModule()
    made._display = SimpleNamespace(display=display["display"].append, warning=display["warning"].append)
    made._path = str(path)
    return made


def result(*lines: dict[str, Any], **more: Any) -> Any:
    """As ansible-core 2.19 and later hand it to a callback."""
    return SimpleNamespace(host=SimpleNamespace(get_name=lambda: "gpu-07"), result={"gpufleet": list(lines), **more})


def old_result(*lines: dict[str, Any]) -> Any:
    return SimpleNamespace(_host=SimpleNamespace(get_name=lambda: "gpu-07"), _result={"gpufleet": list(lines)})


def test_the_callback_prints_and_logs_both_kinds_of_results(printed: dict[str, list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    on = callback(printed, log)
    on.v2_runner_on_ok(result(_rollout_report.line(record())))
    changing = _rollout_report.advance(record(), "changing", {}, at(9))
    on.v2_runner_on_ok(old_result(_rollout_report.line(changing)))
    on.v2_runner_on_ok(result(_progress.line(None, "partitioned", seconds=2)))
    on.v2_runner_on_failed(result(_progress.line("gpu-07", "taken", blockers=[BLOCKER])))
    on.v2_runner_on_ok(SimpleNamespace(host=None, result={"msg": "another task"}))
    assert [text.partition(" (")[0] for text in printed["display"]] == [
        "[wave 3/3] node 7/12 gpu-07 its instances are changed",
        "[wave 3/3] node 7/12 gpu-07 blocked: shop/web may not go",
    ]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["host"], line["node"], line["phase"]) for line in lines] == [
        ("gpu-07", "gpu-07", phase) for phase in ("waiting", "changing", "partitioned", "taken")
    ]
    assert log.stat().st_mode & 0o077 == 0
    assert printed["warning"] == []


@pytest.mark.parametrize("secret", [{"_ansible_no_log": True}, {"censored": "the output has been hidden"}])
def test_what_is_not_to_be_logged_is_not(printed: dict[str, list[str]], tmp_path: Path, secret: dict[str, Any]) -> None:
    on = callback(printed, tmp_path / "log")
    on.v2_runner_on_ok(result(_rollout_report.line(record()), **secret))
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    "broken", [result({"no": "line"}), SimpleNamespace(result={"gpufleet": [{"node": "x"}]}), None]
)
def test_a_result_that_cannot_be_read_is_one_warning(
    printed: dict[str, list[str]], tmp_path: Path, broken: Any
) -> None:
    on = callback(printed, tmp_path / "log")
    on.v2_runner_on_ok(broken)
    assert len(printed["warning"]) == 1
    assert on.disabled, "Ansible does not call it any more"


def test_a_log_that_cannot_be_written_does_not_stop_the_run(printed: dict[str, list[str]], tmp_path: Path) -> None:
    on = callback(printed, tmp_path / "missing" / "log")
    on.v2_runner_on_ok(result(_rollout_report.line(record())))
    assert "missing" in printed["warning"][0]


# the report


def test_a_record_grows_phase_by_phase() -> None:
    grown = record()
    assert (grown["number"], grown["of"], grown["wave"], grown["waves"]) == (7, 12, 3, 3)
    grown = _rollout_report.advance(grown, "looking", {"layout": {"before": []}}, at(30))
    grown = _rollout_report.advance(grown, "evicting", {}, at(35))
    grown = _rollout_report.advance(grown, "changing", {"evicted": ["shop/a"]}, at(95))
    grown = _rollout_report.advance(grown, "done", {"layout": {"after": []}, "evicted": ["shop/a"]}, at(100))
    assert [(one["phase"], one["seconds"]) for one in grown["phases"]] == [
        ("waiting", 30.0), ("looking", 5.0), ("evicting", 60.0), ("changing", 5.0), ("done", 0.0),
    ]  # fmt: skip
    assert (_rollout_report.seconds(grown), grown["evicted"], grown["layout"]) == (
        70.0, ["shop/a"], {"before": [], "after": []},
    )  # fmt: skip


def test_only_overrides_that_were_used_are_listed() -> None:
    said = {"mig_evict": "affected", "mig_evict_emptydir": True, "mig_takeover": False}
    assert _rollout_report.enrich(record(), {"overrides": said})["overrides"] == {"mig_evict_emptydir": True}


def report(*records: dict[str, Any]) -> dict[str, Any]:
    run = {"run": "r1", "versions": {"gpufleet.mig": "0.1.0"}}
    return _rollout_report.document(run, records, at(200))


def test_the_outcome_is_that_of_the_nodes() -> None:
    done = _rollout_report.advance(record("gpu-01"), "done", {}, at(9))
    working = _rollout_report.advance(record("gpu-02"), "publishing", {}, at(9))
    error = {"step": "Take it out", "message": "Node gpu-03: budget", "next": "ansible-playbook X"}
    failed = _rollout_report.advance(record("gpu-03"), "not_changed", {"error": error}, at(9))
    assert report(done)["outcome"] == "done"
    assert report(done, working)["outcome"] == "unfinished"
    found = report(failed, working, done)
    assert (found["outcome"], found["failed"]) == ("failed", ["gpu-03"])
    assert [one["host"] for one in found["nodes"]] == ["gpu-01", "gpu-02", "gpu-03"]
    text = _rollout_report.text(found)
    assert 'gpu-03: "Take it out" failed: Node gpu-03: budget. Next: ansible-playbook X' in text
    assert "gpu-02  stopped while publishing" in text


def test_markdown_has_timeline_layouts_and_what_was_overridden() -> None:
    before = [{"gpus": "0-3", "instances": [{"profile": "1g.10gb", "start": n} for n in range(7)]}]
    after = [{"gpus": [0, 2], "instances": [{"profile": "3g.40gb", "start": 0, "compute_instances": []}]}]
    details = {
        "layout": {"before": before, "after": after},
        "allocatable": {"before": {"nvidia.com/mig-1g.10gb": 28}, "after": {}},
        "overrides": {"mig_evict_emptydir": True},
        "drift": ["GPU 1: made by us 7 x 1g.10gb, now no instances"],
        "blockers": [BLOCKER],
        "evicted": ["shop/a"],
    }
    text = _rollout_report.markdown(report(_rollout_report.advance(record(), "done", details, at(9))))
    for line in (
        "| layout | GPU 0-3: 7 x 1g.10gb | GPU 0, 2: 1 x 3g.40gb[] |",
        "| `nvidia.com/mig-1g.10gb` | 28 | 0 |",
        "* `mig_evict_emptydir: true` on gpu-07",
        "* changed by hand since the last run: GPU 1: made by us 7 x 1g.10gb, now no instances",
        "* in the way: shop/web may not go (add a replica)",
        "* evicted: shop/a",
    ):
        assert line in text.splitlines()


def test_waves_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(MigError, match="0%"):
        _rollout_report.begin("gpu-01", HOSTS, ["0%"], at(0))


# drift


SEVEN = [{"gpus": 0, "instances": [{"profile": "1g.10gb", "start": n} for n in range(7)]}]


def h100(*instances: Any, **mode: Any) -> dict[str, Any]:
    made = gpu("h100-sxm5-80gb", **mode)
    return {**made, "instances": list(instances)}


def small(*starts: int) -> list[Any]:
    return [instance(gpu("h100-sxm5-80gb"), "1g.10gb", start) for start in starts]


@pytest.mark.parametrize(
    ("now", "made", "said"),
    [
        (h100(*small(*range(7))), SEVEN, []),
        (h100(*reversed(small(*range(7)))), SEVEN, []),
        (h100(*small(0, 1)), SEVEN, ["GPU 0: made by us 7 x 1g.10gb, now 2 x 1g.10gb"]),
        (h100(), SEVEN, ["GPU 0: made by us 7 x 1g.10gb, now no instances"]),
        (h100(mode="disabled"), SEVEN, ["GPU 0: made by us 7 x 1g.10gb, now MIG disabled"]),
        (
            h100(*small(1)),
            [{"gpus": 0, "instances": [{"profile": "1g.10gb", "start": 0}]}],
            ["GPU 0: made by us 1g.10gb@0, now 1g.10gb@1"],
        ),
    ],
)
def test_drift_says_what_was_made_and_what_stands(now: Any, made: Any, said: list[str]) -> None:
    assert _drift.drift([now], made) == said


def test_a_gpu_that_is_gone_is_told() -> None:
    (said,) = _drift.drift([h100()], [{"gpus": 3, "mig": "disabled"}])
    assert said.startswith("what we made cannot be compared any more: ")
