# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""rollout_gate against an API server and a Prometheus over real HTTP: each gate shut, opened, and unreadable."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import Api, node, run_here

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/gpufleet-rollout"
GPU = "nvidia.com/gpu"
LONG = 60.0
"""A test that waits that long has failed."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    server.put(*(node(name, {GPU: 8}) for name in "abc"))
    yield server
    server.shutdown()
    server.server_close()


def ask(api: Api, *nodes: str, check: bool = False, **params: Any) -> dict[str, Any]:
    answer = run_here("rollout_gate", check=check, kubeconfig=api.kubeconfig(), nodes=list(nodes or "a"), **params)
    assert api.writes() == []
    return answer


def shut(answer: dict[str, Any]) -> list[str]:
    return [each["gate"] for each in answer["shut"]]


def lease(**annotations: str) -> dict[str, Any]:
    marks = {f"gpufleet.io/{key}": value for key, value in annotations.items()}
    metadata = {"name": "gpufleet-rollout", "namespace": "kube-system", "annotations": marks}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}


def soon(action: Any, *arguments: Any) -> None:
    threading.Timer(0.2, action, arguments).start()


def test_with_nothing_in_the_way_it_goes(api: Api) -> None:
    found = ask(api, "a")
    assert (found["verdict"], found["shut"], found["fleet"]) == ("go", [], ["a", "b", "c"])
    assert found["pods"] == {"a": []}


# pause


@pytest.mark.parametrize("value", ["power work", "true", ""])
def test_a_paused_fleet_stops_the_run_and_says_how_it_goes_on(api: Api, value: str) -> None:
    api.put(lease(paused=value))
    found = ask(api)
    assert (found["failed"], found["verdict"], shut(found)) == (True, "stop", ["paused"])
    assert f"the fleet is paused (gpufleet.io/paused={value})" in found["msg"]
    assert "kubectl -n kube-system annotate lease gpufleet-rollout gpufleet.io/paused-" in found["msg"]
    assert "before node a" in found["msg"]


@pytest.mark.slow
def test_a_pause_that_ends_in_time_is_only_a_wait(api: Api) -> None:
    api.put(lease(paused="a moment"))
    soon(api.put, lease(paused="false"))
    assert ask(api, timeout=LONG)["verdict"] == "go"


@pytest.mark.parametrize("silent", [False, True])
def test_a_pause_key_that_cannot_be_read_means_paused(api: Api, silent: bool) -> None:
    if silent:
        api.broken.add(LEASE)
    else:
        api.forbidden.add(("GET", LEASE))
    found = ask(api)
    assert (found["verdict"], shut(found)) == ("stop", ["paused"])
    assert "cannot be read, which counts as paused" in found["msg"]


def test_the_pause_key_lies_on_the_lock_that_the_run_holds(api: Api) -> None:
    told = run_here("rollout_lock", kubeconfig=api.kubeconfig(), run="r1", namespace="ops")["lock"]
    path = LEASE.replace("kube-system", "ops")
    api.objects[path]["metadata"]["annotations"]["gpufleet.io/paused"] = "yes"
    found = run_here("rollout_gate", kubeconfig=api.kubeconfig(), nodes=["a"], lock=told)
    assert "kubectl -n ops annotate" in found["msg"]


# window


def only(days_from_now: int) -> dict[str, Any]:
    """A window of one whole day, UTC."""
    day = datetime.now(timezone.utc) + timedelta(days=days_from_now)
    return {"days": [day.strftime("%a").lower()]}


def test_outside_of_the_window_the_run_stops_at_once_if_waiting_makes_no_sense(api: Api) -> None:
    started = time.monotonic()
    found = ask(api, window=only(3), timeout=LONG)
    assert time.monotonic() - started < LONG / 2
    assert (found["verdict"], shut(found)) == ("stop", ["window"])
    opens = datetime.now(timezone.utc) + timedelta(days=3)
    assert f"mig_window opens on {opens:%a %Y-%m-%d} 00:00 UTC" in found["msg"]


def test_inside_of_the_window_it_goes(api: Api) -> None:
    assert ask(api, window=[only(3), {"timezone": "Asia/Tokyo"}])["verdict"] == "go"


# skip label


def test_a_node_with_the_skip_label_is_passed_over_at_once(api: Api) -> None:
    api.put(node("a", {GPU: 8}, {"gpufleet.io/skip": "ticket-815"}), node("b", {GPU: 8}, {"gpufleet.io/skip": "false"}))
    started = time.monotonic()
    found = ask(api, "a", timeout=LONG)
    assert time.monotonic() - started < LONG / 2
    assert (found["failed"], found["verdict"], shut(found)) == (True, "skip", ["skip"])
    assert "Node a is left as it is" in found["msg"]
    assert "gpufleet.io/skip=ticket-815" in found["msg"]
    assert ask(api, "b")["verdict"] == "go"


# the node and the budget


def test_a_node_that_is_not_ready_is_waited_for(api: Api) -> None:
    dead = node("a", {GPU: 8})
    dead["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    api.put(dead)
    found = ask(api)
    assert (found["verdict"], shut(found)) == ("blocked", ["ready"])
    assert "node a is not Ready. Nothing was touched" in found["msg"]
    soon(api.put, node("a", {GPU: 8}))
    assert ask(api, timeout=LONG)["verdict"] == "go"


def test_the_budget_counts_what_others_took_out_and_frees_when_it_is_back(api: Api) -> None:
    api.put(node("b", {GPU: 8}, unschedulable=True))
    found = ask(api, min_available={GPU: 9})
    assert (found["verdict"], shut(found)) == ("blocked", ["budget", "budget"])
    assert "cannot be spared" in found["msg"]
    soon(api.put, node("b", {GPU: 8}))
    assert ask(api, min_available={GPU: 9}, timeout=LONG)["verdict"] == "go"


# pods


def busy(name: str, on: str | None, phase: str = "Running", namespace: str = "ops") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": {"app": "backup"}},
        "spec": {"nodeName": on, "containers": []} if on else {"containers": []},
        "status": {"phase": phase},
    }


@pytest.mark.slow
def test_a_pod_blocks_the_node_that_it_is_on(api: Api) -> None:
    api.put(busy("one", "b"), busy("over", "a", "Succeeded"), busy("failed", "a", "Failed"), busy("waits", None))
    assert ask(api, "a", blocking_pods=["app=backup"])["verdict"] == "go"
    found = ask(api, "b", blocking_pods=["app=other", "app=backup"])
    assert (found["verdict"], shut(found)) == ("blocked", ["pods"])
    assert "mig_blocking_pods app=backup matches pod ops/one" in found["msg"]
    soon(api.put, busy("one", "b", "Succeeded"))
    assert ask(api, "b", blocking_pods=["app=backup"], timeout=LONG)["verdict"] == "go"


def test_with_a_namespace_a_pod_blocks_every_node(api: Api) -> None:
    api.put(*(busy(f"p{number}", "b") for number in range(5)))
    found = ask(api, "a", blocking_pods=[{"selector": "app=backup", "namespace": "ops"}])
    assert "matches pod ops/p0, ops/p1, ops/p2 and 2 more" in found["msg"]
    assert ask(api, "a", blocking_pods=[{"selector": "app=backup", "namespace": "shop"}])["verdict"] == "go"


def test_pods_that_may_not_be_listed_are_no_free_pass(api: Api) -> None:
    api.forbidden.add(("GET", "/api/v1/namespaces/ops/pods"))
    found = ask(api, blocking_pods=[{"selector": "app=backup", "namespace": "ops"}])
    assert found["failed"]
    assert "verdict" not in found
    assert "(403)" in found["msg"]


# alerts


class Prometheus(ThreadingHTTPServer):
    """Answers /api/v1/alerts with what a test put into `body`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Alerts)
        self.body = b""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def say(self, **alerts: str) -> None:
        found = [{"labels": {"alertname": name}, "state": state, "value": "1"} for name, state in alerts.items()]
        self.body = json.dumps({"status": "success", "data": {"alerts": found}}).encode()


class _Alerts(BaseHTTPRequestHandler):
    server: Prometheus

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/alerts" else 404)
        self.end_headers()
        self.wfile.write(self.server.body)


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_an_alert_that_fires_blocks_until_it_does_not(api: Api, prometheus: Prometheus) -> None:
    prometheus.say(NodeDown="firing", GpuHot="pending", Watchdog="firing")
    found = ask(api, alerts_url=f"{prometheus.url}/")
    assert (found["verdict"], shut(found)) == ("blocked", ["alerts"])
    assert f"alert NodeDown fires at {prometheus.url}" in found["msg"]
    soon(prometheus.say)
    assert ask(api, alerts_url=prometheus.url, timeout=LONG)["verdict"] == "go"


def test_ignored_is_only_what_matches_as_a_whole(api: Api, prometheus: Prometheus) -> None:
    prometheus.say(NodeDown="firing", NodeDownAgain="firing")
    found = ask(api, alerts_url=prometheus.url, alerts_ignore="NodeDown|Other.*")
    assert "alert NodeDownAgain fires" in found["msg"]
    assert ask(api, alerts_url=prometheus.url, alerts_ignore="Node.*")["verdict"] == "go"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "error"}', b'{"data": {"alerts": [{}]}}'])
def test_an_answer_that_is_none_counts_as_firing(api: Api, prometheus: Prometheus, body: bytes) -> None:
    prometheus.body = body
    found = ask(api, alerts_url=prometheus.url)
    assert (found["verdict"], shut(found)) == ("blocked", ["alerts"])
    assert "does not tell which alerts fire" in found["msg"]
    assert "counts as firing" in found["msg"]


@pytest.mark.parametrize("path", ["", "/no/such/path"])
def test_a_prometheus_that_cannot_be_asked_counts_as_firing(api: Api, prometheus: Prometheus, path: str) -> None:
    prometheus.say()
    url = prometheus.url + path
    if not path:
        prometheus.shutdown()
        prometheus.server_close()
    assert "counts as firing" in ask(api, alerts_url=url)["msg"]


# all together


def test_every_shut_gate_is_named_and_check_mode_only_tells(api: Api, prometheus: Prometheus) -> None:
    api.put(lease(paused="yes"), busy("one", "a"), node("b", {GPU: 8}, unschedulable=True))
    prometheus.say(NodeDown="firing")
    settings: dict[str, Any] = {"blocking_pods": ["app=backup"], "alerts_url": prometheus.url, "window": only(3)}
    found = ask(api, **settings)
    assert shut(found) == ["paused", "window", "budget", "pods", "alerts"]
    assert all(each["text"] in found["msg"] for each in found["shut"])
    told = ask(api, check=True, timeout=LONG, **settings)
    assert "failed" not in told
    assert (told["verdict"], told["shut"], told["pods"]) == ("stop", found["shut"], {"a": []})


def test_without_nodes_only_the_gates_of_the_run_are_asked(api: Api) -> None:
    api.put(busy("one", "a"), node("b", {GPU: 8}, unschedulable=True))
    params: dict[str, Any] = {
        "kubeconfig": api.kubeconfig(),
        "nodes": [],
        "min_available": {GPU: 99},
        "blocking_pods": ["app=backup"],
    }
    assert run_here("rollout_gate", **params)["verdict"] == "go"
    api.put(lease(paused="yes"))
    assert run_here("rollout_gate", **params)["msg"].startswith("The roll-out stops (waited 0 s): the fleet is paused")
    params["blocking_pods"] = [{"selector": "app=backup", "namespace": "ops"}]
    api.put(lease())
    assert run_here("rollout_gate", **params)["msg"].startswith("The roll-out cannot begin")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_unavailable": "0%"}, "mig_max_unavailable is '0%'"),
        ({"min_available": {"gpu": 1}}, "mig_min_available says gpu"),
        ({"window": {"from": "soon"}}, "mig_window has the time 'soon'"),
        ({"blocking_pods": [""]}, "mig_blocking_pods has ''"),
        ({"blocking_pods": [{"namespace": "ops"}]}, "mig_blocking_pods has {'namespace': 'ops'}"),
        ({"blocking_pods": [{"selector": "a=b", "node": "x"}]}, "mig_blocking_pods has {"),
        ({"alerts_url": "prometheus:9090"}, "mig_alerts_url is 'prometheus:9090'"),
        ({"alerts_url": "file:///etc/passwd"}, "mig_alerts_url is 'file:///etc/passwd'"),
        ({"alerts_url": "http://p:9090", "alerts_ignore": "("}, "mig_alerts_ignore is '('"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_before_anything_is_asked(
    api: Api, params: dict[str, Any], said: str
) -> None:
    found = ask(api, timeout=LONG, **params)
    assert found["msg"].startswith(said)
    assert found["msg"].endswith("Nothing was changed.")
    assert api.requests == []
