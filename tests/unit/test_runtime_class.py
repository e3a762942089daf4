# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RuntimeClass of NVIDIA's runtime, against an API server over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import Api, run_here

PATH = "/apis/node.k8s.io/v1/runtimeclasses/nvidia"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_it_comes_once_and_goes_once(api: Api) -> None:
    where: dict[str, Any] = {"kubeconfig": api.kubeconfig()}
    assert run_here("runtime_class", check=True, **where)["changed"]
    assert PATH not in api.objects
    assert run_here("runtime_class", **where)["changed"]
    assert api.objects[PATH]["handler"] == "nvidia"
    assert not run_here("runtime_class", **where)["changed"]
    assert run_here("runtime_class", state="absent", **where)["changed"]
    assert PATH not in api.objects
    assert not run_here("runtime_class", state="absent", **where)["changed"]


def test_one_that_somebody_else_made_or_that_a_pod_names_stays(api: Api) -> None:
    where: dict[str, Any] = {"kubeconfig": api.kubeconfig()}
    api.put(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "nvidia"},
            "handler": "nvidia",
        }
    )
    assert not run_here("runtime_class", **where)["changed"]
    assert not run_here("runtime_class", state="absent", **where)["changed"]
    assert PATH in api.objects
    del api.objects[PATH]
    run_here("runtime_class", **where)
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"nodeName": "a", "runtimeClassName": "nvidia", "containers": []},
        "status": {"phase": "Running"},
    }
    api.put(pod)
    kept = run_here("runtime_class", state="absent", **where)
    assert (kept["changed"], kept["warnings"]) == (False, ["RuntimeClass nvidia stays: pod shop/web names it."])
    api.put({**pod, "status": {"phase": "Succeeded"}})
    assert run_here("runtime_class", state="absent", **where)["changed"]
    assert PATH not in api.objects


def test_another_handler_is_refused(api: Api) -> None:
    where: dict[str, Any] = {"kubeconfig": api.kubeconfig()}
    run_here("runtime_class", **where)
    refused = run_here("runtime_class", handler="nvidia-cdi", **where)
    assert "has handler nvidia, nvidia-cdi is wanted" in refused["msg"]
    assert api.objects[PATH]["handler"] == "nvidia"
