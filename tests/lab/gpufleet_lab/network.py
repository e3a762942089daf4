# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One bridge, one cable per host. All addresses and routes hang on the bridge, so that its removal removes them."""

from __future__ import annotations

import json

from .settings import (
    API_ADDRESS,
    BRIDGE,
    BRIDGE_ADDRESS,
    HOST_NETWORK_PREFIX,
    HOSTS,
    HostSpec,
    LabError,
)
from .shell import run, succeeds

BRIDGE_MAC = "02:67:66:00:00:01"


def _addresses() -> set[str]:
    shown = json.loads(run("ip", "-json", "address", "show", "dev", BRIDGE))
    return {entry["local"] for link in shown for entry in link.get("addr_info", [])}


def bridge_exists(bridge: str = BRIDGE) -> bool:
    return succeeds("ip", "link", "show", "dev", bridge)


def ensure_bridge() -> None:
    """The bridge with the machine's address, the API server's address and a route to each host's pods."""
    if not bridge_exists():
        taken = json.loads(run("ip", "-json", "route", "get", BRIDGE_ADDRESS) or "[]") if _has_route() else []
        if any("gateway" not in route and route.get("dev") for route in taken):
            raise LabError(f"{BRIDGE_ADDRESS}/{HOST_NETWORK_PREFIX} is in use on this machine ({taken[0]['dev']}).")
        add_bridge(BRIDGE, BRIDGE_MAC)
    run("ip", "link", "set", BRIDGE, "up")
    present = _addresses()
    for address, prefix in ((BRIDGE_ADDRESS, HOST_NETWORK_PREFIX), (API_ADDRESS, 32)):
        if address not in present:
            run("ip", "address", "add", f"{address}/{prefix}", "dev", BRIDGE)
    for host in HOSTS:
        run("ip", "route", "replace", host.pod_cidr, "via", host.address, "dev", BRIDGE)


def add_bridge(name: str, mac: str) -> None:
    """A bridge without an address of its own takes that of one of its cables, and changes it when a host boots: what
    the other hosts know of the machine is wrong then, for up to a minute."""
    run("ip", "link", "add", name, "address", mac, "type", "bridge")


def _has_route() -> bool:
    return succeeds("ip", "route", "get", BRIDGE_ADDRESS)


def plug(pid: int, interface: str, bridge: str = BRIDGE) -> None:
    """Lay the cable between the bridge and the network namespace of a host's process 1 (there called eth0)."""
    if succeeds("ip", "link", "show", "dev", interface):
        run("ip", "link", "delete", interface)
    run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", interface, "master", bridge, "up")


def host_commands(host: HostSpec) -> list[str]:
    """`ip -batch` lines that a host runs inside: its address, its way out, the other hosts' pods."""
    others = [other for other in HOSTS if other.name != host.name]
    return [
        "link set lo up",
        "link set eth0 up",
        f"address add {host.address}/{HOST_NETWORK_PREFIX} dev eth0",
        f"route add default via {BRIDGE_ADDRESS}",
        *(f"route add {other.pod_cidr} via {other.address}" for other in others),
    ]


def remove(bridge: str = BRIDGE) -> None:
    """Remove bridge, addresses, routes and any cable whose host died while it was being plugged in."""
    for link in json.loads(run("ip", "-json", "link", "show")):
        if link["ifname"].startswith(f"{bridge}-"):
            run("ip", "link", "delete", link["ifname"])
    if bridge_exists(bridge):
        run("ip", "link", "delete", bridge)
