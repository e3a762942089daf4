# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for node_exporter: as the text format wants them, true, and never half written."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest
from integration.boot.conftest import MakeBootHost

pytestmark = pytest.mark.slow  # each starts the packed command in a process of its own

H100 = {"product": "h100-sxm5-80gb", "mig": "enabled"}
LAYOUT, APPLY = "gpufleet_mig_layout.prom", "gpufleet_mig_apply.prom"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.eE+]+|NaN|[+-]Inf)")


def parse(text: str) -> Samples:
    """The samples of a file in Prometheus' text format 0.0.4; an AssertionError where it is not in that format.

    HELP and TYPE once before the samples of a family, one family after the other, no sample twice.
    """
    assert text.endswith("\n")
    samples: Samples = {}
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in families, line
            families.append(family)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2:] == [families[-1], "gauge"], line
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == families[-1], line
            labels = [(name, value) for name, value in re.findall(LABEL, match[2] or "")]
            key = match[1], frozenset(labels)
            assert key not in samples, line
            samples[key] = float(line.rsplit(" ", 1)[1])
    return samples


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def read(folder: Path, name: str) -> Samples:
    return parse((folder / name).read_text())


def test_they_say_what_stands(make_host: MakeBootHost) -> None:
    host = make_host(H100, H100)
    host.partition([{"gpus": 0, "instances": {"1g.10gb": 4, "3g.40gb": 1}}])
    assert host.command("show", "--metrics", str(host.metrics)).code == 0
    first, second = (gpu["uuid"] for gpu in host.gpus())
    samples = read(host.metrics, LAYOUT)
    assert value(samples, "gpufleet_mig_instances", gpu="0", uuid=first, profile="1g.10gb") == 4
    assert value(samples, "gpufleet_mig_instances", gpu="0", uuid=first, profile="3g.40gb") == 1
    assert not [key for key in samples if ("uuid", second) in key[1]]
    assert value(samples, "gpufleet_mig_layout_info", digest=host.kept()["digest"]) == 1
    assert value(samples, "gpufleet_mig_layout_drift") == 0

    host.run("mig_layout", layout=[{"gpus": 1, "instances": {"7g.80gb": 1}}])
    assert host.command("show", "--metrics", str(host.metrics)).code == 3
    samples = read(host.metrics, LAYOUT)
    assert value(samples, "gpufleet_mig_layout_drift") == 1
    assert value(samples, "gpufleet_mig_instances", gpu="1", uuid=second, profile="7g.80gb") == 1


def test_the_module_says_how_its_change_ended(make_host: MakeBootHost) -> None:
    host = make_host(H100)
    begun = time.time()
    foretold = host.run("mig_layout", layout="all-balanced", metrics=str(host.metrics), check=True)
    assert foretold["changed"]
    assert list(host.metrics.iterdir()) == []
    host.run("mig_layout", layout="all-balanced", metrics=str(host.metrics))
    samples = read(host.metrics, APPLY)
    assert value(samples, "gpufleet_mig_last_apply_success") == 1
    assert begun - 1 <= (value(samples, "gpufleet_mig_last_apply_timestamp_seconds") or 0) <= time.time() + 1
    exported = host.command("export")
    assert f'digest="{exported.out.split(chr(34))[3]}"' in (host.metrics / LAYOUT).read_text()
    host.simctl("fault", "nvmlGpuInstanceDestroy", "--return", 999)
    assert host.run("mig_layout", layout="all-1g.10gb", metrics=str(host.metrics))["failed"]
    assert value(read(host.metrics, APPLY), "gpufleet_mig_last_apply_success") == 0


def test_anybody_may_read_them_and_no_draft_stays(make_host: MakeBootHost) -> None:
    host = make_host(H100)
    host.partition("all-balanced")
    host.command("apply", "--boot", "--metrics", str(host.metrics))
    assert sorted(path.name for path in host.metrics.iterdir()) == [APPLY, LAYOUT]
    assert {stat.S_IMODE(path.stat().st_mode) for path in host.metrics.iterdir()} == {0o644}


def test_a_folder_that_is_not_there_does_not_keep_the_layout_from_coming_back(make_host: MakeBootHost) -> None:
    host = make_host(H100)
    stood = host.partition("all-balanced")
    host.reboot()
    done = host.command("apply", "--boot", "--metrics", str(host.folder / "nowhere"))
    assert (done.code, host.lines()) == (0, stood)
    assert "set mig_metrics_dir" in done.err
    answer = host.run("mig_layout", layout="all-1g.10gb", metrics=str(host.folder / "nowhere"))
    assert "set mig_metrics_dir" in str(answer["warnings"])


@pytest.mark.parametrize("text", ["a 1", "# HELP a x\n# TYPE a gauge\na{b=c} 1\n", "# HELP a x\n# TYPE b gauge\n"])
def test_the_check_itself_finds_what_is_wrong(text: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        parse(text)
