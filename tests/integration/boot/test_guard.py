# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet-mig cordon and uncordon over a boot: what stands on the node and which pods are there afterwards."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.boot.boot_host import BootHost, Done
from integration.boot.conftest import MakeBootHost
from unit.kube_server import TOKEN, Api, node, path_of

pytestmark = pytest.mark.slow  # each starts the packed command in a process of its own

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
RUN, WAS = "gpufleet.io/run", "gpufleet.io/was-schedulable"
LAYOUT = [{"gpus": 0, "instances": {"1g.10gb": 2}}]
SHOWN = {"nvidia.com/mig-1g.10gb": 2}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def host(make_host: MakeBootHost, api: Api) -> BootHost:
    """Its layout is back after a boot, its kubelet has not run since."""
    made = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    made.partition(LAYOUT)
    know(made, api)
    show(api, SHOWN, boot="an earlier one")
    return made


def know(host: BootHost, api: Api, **more: Any) -> None:
    """What site tells the guard."""
    settings = {
        "node": "a", "strategy": "mixed", "plugin_config": {}, "failure": "cordon", "source": "kubelet.conf",
        "folder": "/", "cluster": {"server": api.url}, "user": {"token": TOKEN},
    }  # fmt: skip
    (host.folder / "guard.json").write_text(json.dumps({**settings, **more}))


def show(api: Api, allocatable: dict[str, int], boot: str = BOOT) -> None:
    """What the kubelet reports."""
    old = api.objects.get("/api/v1/nodes/a", {"spec": {}, "metadata": {}})
    made = node("a", allocatable)
    made["spec"], made["metadata"] = old["spec"], {**made["metadata"], **old["metadata"]}
    made["status"]["nodeInfo"] = {"bootID": boot}
    api.put(made)


def run(host: BootHost, command: str, timeout: float = 10) -> Done:
    return host.command(command, "--guard", str(host.folder / "guard.json"), "--timeout", str(timeout))


def marks(api: Api) -> dict[str, Any]:
    found = api.objects["/api/v1/nodes/a"]
    kept = {**found["metadata"].get("annotations", {}), **found["metadata"].get("labels", {})}
    ours = {key: value for key, value in kept.items() if key.startswith("gpufleet.io/")}
    return {"unschedulable": found["spec"].get("unschedulable", False), **ours}


def pod(api: Api, name: str, owner: str | None, resource: str = "nvidia.com/mig-1g.10gb", **status: Any) -> str:
    """Its path."""
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": f"uid-{name}"}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "owner", "uid": "o", "controller": True}]
    containers = [{"name": "main", "resources": {"limits": {resource: "1"}}}]
    made = {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"nodeName": "a", "containers": containers}, "status": {"phase": "Running", **status},
    }  # fmt: skip
    api.put(made)
    return path_of(made)


def test_device_pods_are_released_and_the_node_comes_back_when_its_instances_are_published(
    host: BootHost, api: Api
) -> None:
    goes = pod(api, "web", "ReplicaSet")
    stays = [pod(api, "agent", "DaemonSet"), pod(api, "bare", None), pod(api, "cpu", "ReplicaSet", "cpu")]
    done = run(host, "cordon")
    assert done.code == 0, done.err
    assert marks(api) == {"unschedulable": True, RUN: f"boot-{BOOT}", WAS: "true"}
    assert goes not in api.objects
    assert set(stays) <= set(api.objects)
    assert "Pod shop/web of ReplicaSet owner is released." in done.err
    assert "Pod shop/bare belongs to no controller" in done.err

    refused = pod(api, "late", "Job", phase="Failed", reason="UnexpectedAdmissionError")
    show(api, {"nvidia.com/mig-1g.10gb": 0})
    published = threading.Timer(1.0, lambda: show(api, SHOWN))
    published.start()
    done = run(host, "uncordon", 20)
    assert not published.is_alive()
    assert done.code == 0, done.err
    assert marks(api) == {"unschedulable": False}
    assert refused not in api.objects
    assert run(host, "uncordon").code == 0


@pytest.mark.parametrize("reported", ["unready", "another boot"])
def test_what_the_node_showed_before_the_boot_counts_for_nothing(host: BootHost, api: Api, reported: str) -> None:
    run(host, "cordon")
    if reported == "unready":
        show(api, SHOWN)
        api.objects["/api/v1/nodes/a"]["status"]["conditions"][0]["status"] = "Unknown"
    done = run(host, "uncordon", 1)
    assert done.code == 3
    assert marks(api)["gpufleet.io/mig-state"] == "failed"
    said = "the node is not Ready" if reported == "unready" else "its kubelet has not reported since this boot"
    assert said in marks(api)["gpufleet.io/reason"]
    assert said in done.err


def test_a_layout_that_did_not_come_back_keeps_the_node_cordoned(host: BootHost, api: Api) -> None:
    host.reboot()
    assert run(host, "cordon").code == 0
    found = marks(api)
    assert (found["unschedulable"], found["gpufleet.io/mig-state"], found[WAS]) == (True, "failed", "true")
    assert "GPU 0" in found["gpufleet.io/reason"]
    assert "run gpufleet.mig.site for a" in found["gpufleet.io/reason"]
    show(api, {"nvidia.com/gpu": 1})
    done = run(host, "uncordon")
    assert (done.code, marks(api)) == (3, found)
    assert "Node a stays cordoned: GPU 0" in done.err
    # the next boot brings it back
    host.command("apply", "--boot")
    show(api, {}, boot="that one")
    assert run(host, "cordon").code == 0
    show(api, SHOWN)
    assert run(host, "uncordon").code == 0
    assert marks(api) == {"unschedulable": False}


def test_ignore_gives_it_back_with_what_there_is(host: BootHost, api: Api) -> None:
    know(host, api, failure="ignore")
    host.reboot()
    run(host, "cordon")
    assert "gpufleet.io/mig-state" not in marks(api)
    show(api, {"nvidia.com/gpu": 1})
    assert run(host, "uncordon").code == 0
    assert marks(api) == {"unschedulable": False}


@pytest.mark.parametrize(
    ("found", "annotations", "left"),
    [
        ({"unschedulable": True}, {}, {"unschedulable": True}),  # a person's cordon
        (
            {"unschedulable": True},
            {RUN: "boot-of-old", WAS: "true", "gpufleet.io/phase": "done"},  # the power failed in an earlier boot
            {"unschedulable": False, "gpufleet.io/phase": "done"},
        ),
        (
            {"unschedulable": True},
            {RUN: "20261125T1", WAS: "true"},  # a roll-out that rebooted it
            {"unschedulable": True, RUN: "20261125T1", WAS: "true"},
        ),
    ],
)
def test_the_node_becomes_as_it_was_found(
    host: BootHost, api: Api, found: dict[str, Any], annotations: dict[str, str], left: dict[str, Any]
) -> None:
    api.objects["/api/v1/nodes/a"]["spec"] = found
    api.objects["/api/v1/nodes/a"]["metadata"]["annotations"] = annotations
    goes = pod(api, "web", "ReplicaSet")
    assert run(host, "cordon").code == 0
    assert goes not in api.objects
    show(api, SHOWN)
    assert run(host, "uncordon").code == 0
    assert marks(api) == left


def test_a_node_whose_kubelet_runs_is_left_alone(host: BootHost, api: Api) -> None:
    """Somebody starts the unit by hand: pods are alive."""
    show(api, SHOWN)
    alive = pod(api, "web", "ReplicaSet")
    done = run(host, "cordon")
    assert done.code == 0
    assert "has run since this boot" in done.err
    assert alive in api.objects
    assert marks(api) == {"unschedulable": False}
    assert api.writes() == []


def test_an_api_that_is_away_costs_no_more_than_the_timeout_and_may_come(host: BootHost, api: Api) -> None:
    know(host, api, cluster={"server": "http://127.0.0.1:9"})
    done = run(host, "cordon", 1)
    assert done.code == 1
    assert "The Kubernetes API at http://127.0.0.1:9 (kubelet.conf) does not answer" in done.err
    know(host, api)
    api.broken.add("/api/v1/nodes/a")
    comes = threading.Timer(1.0, api.broken.clear)
    comes.start()
    assert run(host, "cordon").code == 0
    assert marks(api)["unschedulable"]


def test_a_node_that_others_write_meanwhile(host: BootHost, api: Api) -> None:
    api.conflicts["/api/v1/nodes/a"] = 3
    assert run(host, "cordon").code == 0
    assert marks(api)[RUN] == f"boot-{BOOT}"


@pytest.mark.parametrize("inline", [True, False])
def test_the_kubelets_certificate_is_what_it_shows(host: BootHost, api: Api, tmp_path: Path, inline: bool) -> None:
    """The server takes no other client, the client no other server."""
    for name in ("server", "client", "other"):
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
                "-keyout", f"{name}.key", "-out", f"{name}.crt",
            ],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "client.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    api.socket = context.wrap_socket(api.socket, server_side=True)

    def named(key: str, file: str) -> dict[str, str]:
        if inline:
            return {f"{key}-data": base64.b64encode((tmp_path / file).read_bytes()).decode()}
        return {key: file}

    def knows(authority: str, client: str) -> None:
        user = {**named("client-certificate", f"{client}.crt"), **named("client-key", f"{client}.key"), "token": TOKEN}
        cluster = {"server": api.url.replace("http:", "https:"), **named("certificate-authority", f"{authority}.crt")}
        know(host, api, cluster=cluster, user=user, folder=str(tmp_path))

    knows("server", "client")
    assert run(host, "cordon").code == 0
    knows("server", "other")
    assert run(host, "cordon", 0.5).code == 1
    knows("other", "client")
    done = run(host, "cordon", 0.5)
    assert done.code == 1
    assert "certificate verify failed" in done.err


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: file.unlink(), "guard.json cannot be read"),
        (lambda file: file.write_text("{}"), "is not what gpufleet.mig.site writes for the guard"),
    ],
)
def test_settings_that_are_none(host: BootHost, api: Api, write: Callable[[Path], None], said: str) -> None:
    write(host.folder / "guard.json")
    done = run(host, "cordon")
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert api.writes() == []
