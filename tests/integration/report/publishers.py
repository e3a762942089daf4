# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the device plugins of a cluster do, for the small API of the unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from unit.kube_server import PLUGIN, Api


class Publishers:
    """Each offers, when it starts anew, the instances that its host has then; `profiles` tells them by node."""

    def __init__(self, api: Api, profiles: Callable[[str], list[str]]) -> None:
        self._api = api
        self._profiles = profiles
        self._seen = self._plugins()
        self._over = threading.Event()
        threading.Thread(target=self._publish, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _plugins(self) -> dict[str, str]:
        found = [one for path, one in list(self._api.objects.items()) if f"/{PLUGIN}-" in path]
        return {one["spec"]["nodeName"]: one["metadata"]["uid"] for one in found}

    def _publish(self) -> None:
        while not self._over.wait(0.05):
            for name, uid in self._plugins().items():
                if self._seen.get(name) != uid:
                    self._offer(name)
                    self._seen[name] = uid

    def _offer(self, name: str) -> None:
        profiles = self._profiles(name)
        node = self._api.objects[f"/api/v1/nodes/{name}"]
        single = node["metadata"]["labels"]["nvidia.com/device-plugin.config"] == "single"
        kinds = ["gpu"] * len(profiles) if single else [f"mig-{one}" for one in profiles]
        offered = {f"nvidia.com/{kind}": str(kinds.count(kind)) for kind in kinds}
        with self._api.guard:
            for amounts in (node["status"]["allocatable"], node["status"]["capacity"]):
                for key in [key for key in amounts if key.startswith("nvidia.com/")]:
                    del amounts[key]
                amounts.update(offered)
