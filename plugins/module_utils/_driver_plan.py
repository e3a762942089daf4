# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change on a host so that it has the wanted driver, or why it cannot be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import product_of

Host = Mapping[str, Any]
Wanted = Mapping[str, Any]


def plan(host: Host, wanted: Wanted) -> dict[str, Any]:
    """`host` as gpu_host_info returns it. `wanted`:

    version (branch or whole), kernel_modules, signed, packages [names], headers [names], files {path: text},
    units [names], minimum_only (nothing may change: only judge what is there), drained (a loaded driver may be
    replaced at once), reboots (false: the host may not reboot).
    """
    reason = _unfit(host, wanted)
    changes = [] if reason or wanted.get("minimum_only") else _changes(host, wanted)
    if not reason and changes:
        reason = _unsafe(host, wanted)
    steps = [] if reason else changes
    replaces = host["loaded"] is not None and not {"packages", "reboot"}.isdisjoint(steps)
    return {
        "reason": reason,
        "changes": steps,
        "packages": list(wanted["packages"]),
        "reboot": reason is None and needs_reboot(host, wanted),
        "loaded": host["loaded"],
        "wanted": {"version": str(wanted.get("version") or ""), "kernel_modules": wanted.get("kernel_modules")},
        # NVML does not work with libraries of another version than the module, and which version of a branch the
        # repository has is known only afterwards: packages alone take it from under its pods, too.
        "replaces": replaces,
        "waits": replaces and not wanted.get("drained"),
        "stops": _why_not_now(host, wanted) if steps and not wanted.get("reboots", True) else None,
    }


def _why_not_now(host: Host, wanted: Wanted) -> str | None:
    if not needs_reboot(host, wanted):
        return None
    return (
        f"driver {wanted['version']} needs a reboot (loaded now: {', '.join(host['modules'])}) and driver_reboot is "
        "never; drain the host and run again with driver_reboot=if_needed"
    )


def branch_of(version: str) -> int:
    return int(version.split(".")[0])


def matches(version: str, wanted: str) -> bool:
    """Whether a package's or module's version is of the wanted branch, or the wanted version itself."""
    return re.match(rf"{re.escape(wanted)}(?![0-9])", version) is not None


def minimum(host: Host) -> tuple[str, str] | None:
    """The oldest driver with which all boards of the host have MIG, and the board that asks for it."""
    found = []
    for gpu in host["gpus"]:
        product = product_of({**gpu, "name": ""})
        told = re.match(r"[0-9.]+", (product or {}).get("min_driver") or "")
        if product and told:
            found.append((_numbers(told[0]), told[0], str(product.get("name") or gpu["pci_device_id"])))
    if not found:
        return None
    return max(found)[1:]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _unfit(host: Host, wanted: Wanted) -> str | None:
    """What no installation could mend."""
    distribution = host["distribution"]
    if not host["gpus"]:
        return (
            "there is no NVIDIA GPU on its PCI bus; take it out of the group of GPU hosts, or look at the board's seat"
        )
    if wanted.get("minimum_only"):
        return _unfit_as_it_is(host)
    if distribution["family"] is None:
        return (
            f"the role knows Debian, Ubuntu and the RHEL family, and this is {distribution['name']}; install the "
            "driver by other means and set driver_manage to false"
        )
    version = str(wanted["version"])
    least = minimum(host)
    if least and _numbers(version) < _numbers(least[0])[: len(_numbers(version))]:
        return (
            f"driver {version} has no MIG for {least[1]}, which needs {least[0]} or newer; set driver_version to "
            f"{branch_of(least[0])} or newer"
        )
    closed = _why_not_proprietary(host, version) if wanted["kernel_modules"] == "proprietary" else None
    if closed:
        return f"{closed}; set driver_kernel_modules to open"
    if host["secure_boot"] and not host["signed"] and not wanted.get("signed"):
        return (
            "Secure Boot is on and the kernel would refuse the driver's module, which no enrolled key has signed; "
            "enroll the key of DKMS (mokutil --import /var/lib/dkms/mok.pub, then confirm at the console), or switch "
            "Secure Boot off, or set driver_signed where your packages bring a signed module"
        )
    return None


def _why_not_proprietary(host: Host, version: str) -> str | None:
    """NVIDIA's driver installation guide: Blackwell takes the open modules only, and 620 has no others."""
    if branch_of(version) >= 620:
        return f"driver {version} has no proprietary kernel modules any more"
    for gpu in host["gpus"]:
        product = product_of({**gpu, "name": ""})
        if product and product["architecture"] == "blackwell":
            return f"{product['name'] or gpu['pci_device_id']} does not work with the proprietary kernel modules"
    return None


def _unfit_as_it_is(host: Host) -> str | None:
    """For hosts whose image or operator brings the driver."""
    loaded, least = host["loaded"], minimum(host)
    if loaded is None:
        return (
            "no NVIDIA driver is loaded and driver_manage is false; bring one with the image or the GPU operator, or "
            "set driver_manage to true"
        )
    if least and _numbers(loaded["version"]) < _numbers(least[0]):
        return f"its driver {loaded['version']} has no MIG for {least[1]}, which needs {least[0]} or newer; upgrade it"
    return None


def _unsafe(host: Host, wanted: Wanted) -> str | None:
    """What stands in the way only while something changes."""
    users = host["modules"].get("nvidia_drm", 0)
    if users and _module_changes(host, wanted):
        who = ", ".join(host["display"]) or f"{users} users of nvidia_drm"
        return (
            f"a display runs on its GPUs ({who}) and would hang; stop it (systemctl isolate multi-user.target), then "
            "run again"
        )
    return None


def _changes(host: Host, wanted: Wanted) -> list[str]:
    """Names of the steps, in the role's order."""
    found = [name for name, path, text in wanted["files"] if host["files"].get(path) != text]
    if "nouveau" in found or host["initramfs_stale"]:
        found.append("initramfs")
    packages = host["packages"]
    if wanted["headers"] and not host["headers"]:
        found.append("headers")
    if any(not _is_right(packages, name, str(wanted["version"])) for name in wanted["packages"]):
        found.append("packages")
    elif any(not packages[name]["held"] for name in wanted["packages"]):
        found.append("hold")
    for unit in wanted["units"]:
        state = host["units"].get(unit)
        if "packages" in found or state is None or not (state["enabled"] and state["active"]):
            found.append("units")
            break
    if needs_reboot(host, wanted):
        found.append("reboot")
    elif host["loaded"] is None:
        found.append("load")
    return found


def _is_right(packages: Mapping[str, Any], name: str, version: str) -> bool:
    return name in packages and matches(packages[name]["version"], version)


def _module_changes(host: Host, wanted: Wanted) -> bool:
    loaded = host["loaded"]
    return loaded is not None and (
        not matches(loaded["version"], str(wanted["version"]))
        or loaded["kernel_modules"] != wanted["kernel_modules"]
        or not _same_as_installed(host, wanted)
    )


def needs_reboot(host: Host, wanted: Wanted) -> bool:
    """A loaded module stays until the reboot: nouveau, or a driver that is not the wanted or the installed one."""
    return "nouveau" in host["modules"] or _module_changes(host, wanted)


def _same_as_installed(host: Host, wanted: Wanted) -> bool:
    """Whether the loaded module is the installed packages' (a packager's revision follows the driver's version)."""
    installed = [host["packages"][name]["version"] for name in wanted["packages"] if name in host["packages"]]
    return all(matches(version, host["loaded"]["version"]) for version in installed)
