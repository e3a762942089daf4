# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""lab.py's commands."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import (
    artifacts,
    beside,
    cgroups,
    controlplane,
    hostfiles,
    hosts,
    joining,
    network,
    procs,
    realhosts,
    selfcheck,
    serving,
)
from .console import say, step
from .settings import HOSTS, KUBECONFIG, LOCK, RUN_DIR, HostSpec, LabError, host_by_name
from .shell import locked

_TEST_RUN = "GPUFLEET_TEST_RUN"
"""tools/test.sh gives it to all its steps. A step outlives a script that is killed (SIGKILL), and would start labs."""


def _chosen(names: list[str]) -> list[HostSpec]:
    return [host_by_name(name) for name in names] if names else list(HOSTS)


def up(names: list[str]) -> None:
    """Build what is missing, then start what does not run or runs from other files."""
    artifacts.build()
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    RUN_DIR.chmod(0o700)
    with locked(LOCK, "another command changes the lab; waiting for it"):
        hostfiles.ensure_user_key()
        controlplane.ensure_running()
        controlplane.link_programs()
        chosen = _chosen(names)
        archives = artifacts.image_archives()
        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
            futures = {pool.submit(_start, host, archives): host for host in chosen}
            failures = []
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, LabError):
                    failures.append(str(error))
                elif error:
                    raise error
        if failures:
            raise LabError("\n".join(failures))
    say(f"the lab is up: KUBECONFIG={KUBECONFIG}")


def _start(host: HostSpec, archives: dict[str, Path]) -> None:
    hosts.ensure_running(host, artifacts.simulator())
    hosts.import_images(host, archives)


def images(names: list[str]) -> None:
    """Build the images and hand them to running hosts."""
    artifacts.build()
    archives = artifacts.image_archives()
    for host in _chosen(names):
        if hosts.running(host):
            hosts.import_images(host, archives)


def down() -> None:
    """End all processes and remove namespaces, mounts, cables, bridge, control groups and what the lab stored."""
    with locked(LOCK, "another command changes the lab; waiting for it"), step("stopping the lab"):
        known = {path.name for path in (RUN_DIR / "hosts").glob("*")} | {host.name for host in HOSTS}
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda name: procs.end_group(name, RUN_DIR / "hosts" / name / "init.json"), sorted(known)))
        procs.end_group(controlplane.NAME, controlplane.RECORD)
        cgroups.remove()
        network.remove()
        for entry in RUN_DIR.glob("*"):
            if entry.name == "logs":
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def down_all() -> None:
    """The cluster, its hosts, the labs beside it, the hosts that are none of it, and a `make test` that goes on."""
    procs.end_marked(_TEST_RUN)
    down()
    if not os.environ.get(beside.WITHIN):
        beside.down()
        realhosts.down()


def _real_hosts(arguments: argparse.Namespace) -> None:
    operation = arguments.operation
    if operation in ("up", "down", "status"):
        {"up": lambda: realhosts.up(arguments.names), "down": realhosts.down, "status": realhosts.status}[operation]()
        return
    actions = {
        "join": joining.join,
        "start": realhosts.start,
        "powercut": realhosts.power_cut,
        "reinstall": realhosts.reinstall,
        "swap": lambda host: realhosts.swap(host, json.loads(arguments.boards)["gpus"]),
        "supply": realhosts.supply,
    }
    for name in arguments.names:
        actions[operation](realhosts.by_name(name))


def status() -> None:
    """A table of what runs, with its memory."""
    rows = [("name", "address", "runs", "node", "memory MiB", "GPUs")]
    plane = controlplane.runs()
    total = cgroups.memory_mib(controlplane.NAME)
    rows.append(("control-plane", "10.96.0.1", "yes" if plane else "no", "", f"{total:.0f}", ""))
    for host in HOSTS:
        node = ""
        alive = hosts.running(host) is not None
        if plane:
            node = "Ready" if hosts.node_ready(host) else "not ready"
        used = cgroups.memory_mib(host.name)
        total += used
        gpus = f"{len(host.gpus)} x {host.gpus[0]}"
        rows.append((host.name, host.address, "yes" if alive else "no", node, f"{used:.0f}", gpus))
    rows.append(("together", "", "", "", f"{total:.0f}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if plane:
        print(f"look:  KUBECONFIG={KUBECONFIG} {RUN_DIR}/bin/kubectl get nodes\nstop:  make lab-down")


def _host(arguments: argparse.Namespace) -> None:
    host = host_by_name(arguments.name)
    with locked(LOCK, "another command changes the lab; waiting for it"):
        if arguments.operation == "start":
            hosts.start_again(host)
        elif arguments.operation == "stop":
            hosts.stop(host, grace_s=10)
        else:
            hosts.stop(host)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py", description="A real Kubernetes with simulated GPU hosts.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing into the cache")
    for name, text in (("up", "start the lab, or the hosts named"), ("images", "hand new images to running hosts")):
        commands.add_parser(name, help=text).add_argument("hosts", nargs="*", metavar="HOST")
    commands.add_parser("serving", help="kube-proxy and the image of Triton, on the running lab")
    commands.add_parser("down", help="stop everything and leave nothing behind")
    commands.add_parser("status", help="what runs")
    host = commands.add_parser("host", help="one host's power")
    host.add_argument("operation", choices=["start", "stop", "powercut"])
    host.add_argument("name")
    real = commands.add_parser("hosts", help="hosts with systemd and without a driver, apart from the cluster")
    operations = ["up", "down", "status", "join", "start", "powercut", "reinstall", "swap", "supply"]
    real.add_argument("operation", choices=operations)
    real.add_argument("names", nargs="*", metavar="HOST")
    real.add_argument("--boards", help="for swap: what simctl init takes, as JSON")
    execute = commands.add_parser("exec", help="run a command on a host: exec NAME -- COMMAND")
    execute.add_argument("name")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    second = commands.add_parser("beside", help="run a command in a second lab: beside NAME COMMAND; without: end it")
    second.add_argument("name")
    second.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    check = commands.add_parser("selfcheck", help="does the running lab keep its promises?")
    check.add_argument(
        "--cycle", action="store_true", help="stop it, start it, check, cut power, stop it, look for traces"
    )
    return parser


def _end_at_once_when_interrupted() -> None:
    """Interrupted is the same as killed, so that there is one half state to be prepared for and not two.

    What we started ends with us (shell.ending_with_us), except hosts and control plane, which `down` finds.
    """

    def end(number: int, _frame: object) -> None:
        text = "interrupted; the same command goes on from here, `make lab-down` removes what was started"
        os.write(2, f"\nlab: {text}\n".encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        print("The lab needs root: it makes network, mount and process namespaces.", file=sys.stderr)
        return 1
    try:
        if arguments.command == "exec":
            words = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
            return hosts.execute(host_by_name(arguments.name), words or ["/bin/bash", "-l"])
        _end_at_once_when_interrupted()
        if arguments.command == "beside" and arguments.argv:
            return beside.execute(arguments.name, arguments.argv)
        commands: dict[str, Callable[[], None]] = {
            "build": artifacts.build,
            "up": lambda: up(arguments.hosts),
            "images": lambda: images(arguments.hosts),
            "beside": lambda: beside.down([arguments.name]),
            "down": down_all,
            "hosts": lambda: _real_hosts(arguments),
            "serving": serving.ensure,
            "status": status,
            "host": lambda: _host(arguments),
            "selfcheck": lambda: selfcheck.check_cycle(up, down) if arguments.cycle else selfcheck.check_running(),
        }
        commands[arguments.command]()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except subprocess.SubprocessError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0
