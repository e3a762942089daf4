# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a plan true through NVML, and undoing it when a call fails. The only place that changes GPUs.

There is one way to change a GPU, `_Work.converge`: destroy what is not wanted, set the mode, create what is missing.
Undoing is the same towards what stood before, from what is found then, so it does not matter how far a change came.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import _host, _nvml
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import (
    in_words_of,
    line,
    place,
    preview,
    shape,
    waiting,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_reader import compute_profile_infos, read_gpu
from ansible_collections.gpufleet.mig.plugins.module_utils._journal import Journal
from ansible_collections.gpufleet.mig.plugins.module_utils._nvml import Nvml, NvmlError
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import describe

Gpu = dict[str, Any]

MODE_NUMBERS = {"disabled": 0, "enabled": 1}

NEXT = {
    _nvml.IN_USE: "stop what holds the GPU (fuser -v /dev/nvidia{index} names it) and run this again",
    _nvml.INSUFFICIENT_RESOURCES: "compare the layout with the profiles and places that mig_info returns for this GPU",
    _nvml.GPU_IS_LOST: "look for Xid messages in dmesg, reboot the host, and run this again",
    _nvml.NO_PERMISSION: "run as root (become: true), in a container with CAP_SYS_ADMIN",
    _nvml.RESET_REQUIRED: "reboot the host and run this again",
}
"""What to do after a call failed so; anything else is for the kernel's log."""


@dataclass(frozen=True)
class Target:
    """One GPU that changes: as it stands, and as it is to be."""

    before: Gpu
    after: Gpu

    @property
    def uuid(self) -> str:
        return str(self.before["uuid"])


@dataclass
class Outcome:
    """How the change ended, by UUID: the GPUs whose mode waits for a reboot, each with a sentence that says why, and
    the GPUs that changed as they were read back. `failure` says what became of those that failed, each alone."""

    waiting: dict[str, str] = field(default_factory=dict)
    gpus: dict[str, Gpu] = field(default_factory=dict)
    failure: MigError | None = None


class StepError(MigError):
    """A step on one GPU that failed; `code` is NVML's, None where it was not NVML that failed."""

    def __init__(self, gpu: Gpu, what: str, cause: MigError) -> None:
        self.code = cause.code if isinstance(cause, NvmlError) else None
        super().__init__(f"{describe(gpu)}: {what} failed ({cause})", **{**cause.context, "gpu": gpu["index"]})


class _Stopped(Exception):
    """This GPU was not finished because another one failed."""


def apply(
    nvml: Nvml,
    gpus: Sequence[Gpu],
    plan: Mapping[str, Any],
    journal: Journal,
    ways: Collection[str],
    parallel: bool,
    each_alone: bool = False,
) -> Outcome:
    """Make a feasible plan true on the GPUs that differ, and check it by reading them back.

    `ways` are the planner's, and say what may be done for a mode. When a step fails, every GPU goes back to what stood
    before and MigError says so. With `each_alone` only the GPU that failed goes back, and the outcome says so.
    """
    ordered = sorted(gpus, key=lambda gpu: int(gpu["index"]))
    targets = [
        Target(gpu, after)
        for gpu, shown, after in zip(ordered, preview(ordered, plan), plan["after"])
        if shape(gpu) != shape(shown)
    ]
    if not targets:
        return Outcome()
    journal.write([{"index": t.before["index"], "uuid": t.uuid, "before": t.before, "after": t.after} for t in targets])
    work = _Work(nvml, ways, parallel, each_alone)
    failures = work.converge(targets)
    if not failures:
        journal.remove()
        return Outcome(work.waiting, work.read_back)
    if not each_alone:
        raise _undo(work, targets, failures, journal)
    done = Outcome(dict(work.waiting), dict(work.read_back))
    done.failure = _undo(work, [target for target in targets if target.uuid in failures], failures, journal)
    done.gpus.update(work.read_back)
    return done


def _undo(work: _Work, targets: Sequence[Target], failures: Mapping[str, MigError], journal: Journal) -> MigError:
    """Put every GPU back to what stood before. The error says what failed, what was undone and what is next."""
    first = min(failures.values(), key=lambda error: int(error.context.get("gpu", 0)))
    by_uuid = {target.uuid: target.before for target in targets}
    lasting = work.put_back(targets)
    back = [gpu for uuid, gpu in by_uuid.items() if uuid not in lasting]
    sentences = [f"{error}." for error in failures.values()]
    if back:
        sentences.append(
            f"{_listed(back)} {'is' if len(back) == 1 else 'are'} again as before; "
            "instances that stayed were not touched."
        )
    for uuid, error in lasting.items():
        sentences.append(f"{describe(by_uuid[uuid])} could not be put back: {error}.")
    if lasting:
        sentences.append(f"What stood before is kept in {journal.path}.")
    else:
        journal.remove()
    hint = NEXT.get(getattr(first, "code", None) or 0, "look for NVRM and Xid messages in dmesg, and run this again")
    sentences.append(f"Next: {hint.format(index=first.context.get('gpu', 0))}.")
    undone = {"back": [gpu["index"] for gpu in back], "not_back": [by_uuid[uuid]["index"] for uuid in lasting]}
    return MigError(" ".join(sentences), **first.context, undone=undone)


def _listed(gpus: Sequence[Gpu]) -> str:
    return " and ".join(f"GPU {gpu['index']}" for gpu in gpus)


class _Work:
    """One change of some GPUs. `waiting` names the GPUs whose mode only a reboot can bring, `read_back` has those that
    are done as they stood then."""

    def __init__(self, nvml: Nvml, ways: Collection[str], parallel: bool, each_alone: bool) -> None:
        self.nvml = nvml
        self.ways = ways
        self.parallel = parallel
        self._goes_on = each_alone
        self.waiting: dict[str, str] = {}
        self.read_back: dict[str, Gpu] = {}
        self._stop = threading.Event()
        self._undoing = False

    def converge(self, targets: Sequence[Target]) -> dict[str, MigError]:
        """Take each GPU from what stands to what is wanted; the failures by UUID. After one, no GPU goes on, but when
        undoing, or where each is changed alone."""
        unready: dict[str, int] = {}

        def make_room(target: Target) -> None:
            self._clear(target)
            status = self._set_mode(target)
            if status is not None:
                unready[target.uuid] = status

        failures = self._each(targets, make_room)
        if unready and (self._goes_on or not failures):
            failures.update(self._reset([target for target in targets if target.uuid in unready], unready))
        going_on = [target for target in targets if target.uuid not in failures]
        if self._goes_on or not failures:
            failures.update(self._each(going_on, self._fill_and_check))
        return failures

    def put_back(self, targets: Sequence[Target]) -> dict[str, MigError]:
        """Undo, from what is found now; the GPUs for which that failed, by UUID."""
        self._stop.clear()
        self._undoing = self._goes_on = True
        self.waiting = {}
        found: list[Target] = []
        failures: dict[str, MigError] = {}
        for target in targets:
            try:
                self.nvml.forget(target.uuid)
                now = read_gpu(self.nvml, target.uuid)
                found.append(Target(now, _restored(now, target.before)))
            except MigError as error:
                failures[target.uuid] = StepError(target.before, "reading it back", error)
        failures.update(self.converge(found))
        return failures

    def _each(self, targets: Sequence[Target], step: Callable[[Target], None]) -> dict[str, MigError]:
        """The step on each GPU, one thread per GPU; the failures by UUID, in the order of `targets`."""
        failures: dict[str, MigError] = {}

        def guarded(target: Target) -> None:
            try:
                step(target)
            except _Stopped:
                pass
            except MigError as error:
                failures[target.uuid] = error
                self._stop.set()
            except Exception as error:  # a fault of ours must be undone as well
                failures[target.uuid] = StepError(target.before, "the change", MigError(repr(error)))
                self._stop.set()

        if self.parallel and len(targets) > 1:
            with ThreadPoolExecutor(max_workers=len(targets)) as pool:
                list(pool.map(guarded, targets))
        else:
            for target in targets:
                guarded(target)
        return {target.uuid: failures[target.uuid] for target in targets if target.uuid in failures}

    def _do(self, target: Target, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """One call that changes the GPU, named for the user; not begun any more when another GPU has failed."""
        if self._stop.is_set() and not self._goes_on:
            raise _Stopped
        try:
            return call(*arguments)
        except NvmlError as error:
            raise StepError(target.before, what, error) from None

    def _clear(self, target: Target) -> None:
        """Destroy what is not wanted: compute instances first, because a GPU instance with one in it is in use."""
        switched = target.before["mig_mode"]["current"] != target.after["mig_mode"]["current"]
        wanted = {} if switched else {place(instance): instance for instance in target.after["instances"]}
        for instance in target.before["instances"]:
            stays = wanted.get(place(instance))
            inside = {place(ci) for ci in stays["compute_instances"]} if stays else set()
            going = [ci for ci in instance["compute_instances"] if place(ci) not in inside]
            if stays is not None and not going:
                continue
            handle = self._instance(target, instance)
            for ci in going:
                what = f"destroying compute instance {ci['profile']} in {_at(instance)}"
                member = self._do(
                    target, what, self.nvml.call, *_by_id("nvmlGpuInstanceGetComputeInstance", handle, ci)
                )
                self._do(target, what, self.nvml.call, "nvmlComputeInstanceDestroy", member)
            if stays is None:
                self._do(target, f"destroying {_at(instance)}", self.nvml.call, "nvmlGpuInstanceDestroy", handle)

    def _instance(self, target: Target, instance: Gpu) -> Any:
        """The handle of a GPU instance that was read before. Ids are given anew, so its place is checked."""
        what = f"finding {_at(instance)}"
        device = self._do(target, what, self.nvml.device, target.uuid)
        handle = self._do(target, what, self.nvml.call, "nvmlDeviceGetGpuInstanceById", device, instance["gi_id"])
        there = self._do(target, what, self.nvml.call, "nvmlGpuInstanceGetInfo", handle).placement
        if (there.start, there.size) != (instance["start"], instance["size"]):
            raise StepError(target.before, what, MigError("something else changes the instances of this GPU meanwhile"))
        return handle

    def _set_mode(self, target: Target) -> int | None:
        """Set the mode where it differs or another is pending. None, or why the GPU does not have it yet."""
        wanted = target.after["mig_mode"]["current"]
        if target.before["mig_mode"] == target.after["mig_mode"]:
            return None
        what = f"setting MIG to {wanted}"
        device = self._do(target, what, self.nvml.device, target.uuid)
        status = self._do(target, what, self.nvml.call, "nvmlDeviceSetMigMode", device, MODE_NUMBERS[wanted])
        return None if self._has_mode(target) else int(status)

    def _has_mode(self, target: Target) -> bool:
        wanted = MODE_NUMBERS[target.after["mig_mode"]["current"]]
        # the driver may have reset the GPU: its handle is taken again
        self.nvml.forget(target.uuid)
        what = "reading the MIG mode"
        device = self._do(target, what, self.nvml.device, target.uuid)
        return list(self._do(target, what, self.nvml.call, "nvmlDeviceGetMigMode", device)) == [wanted, wanted]

    def _reset(self, targets: Sequence[Target], status: Mapping[str, int]) -> dict[str, MigError]:
        """Reset the GPUs that have not taken their mode, where allowed; those that still have not wait for a reboot."""
        said = "a reset is not allowed"
        if "reset" in self.ways:
            try:
                self.nvml.close()
                said = _host.reset_gpus([target.before["pci_bus_id"] for target in targets]).said
                self.nvml.start()
            except MigError as error:
                return {
                    target.uuid: StepError(target.before, "starting NVML after a reset", error) for target in targets
                }
        failures: dict[str, MigError] = {}
        for target in targets:
            try:
                if not self._has_mode(target):
                    self._wait(target, status[target.uuid], said)
            except MigError as error:
                failures[target.uuid] = error
        return failures

    def _wait(self, target: Target, status: int, said: str) -> None:
        """Leave the mode pending. MigError where a reboot is not allowed, or when undoing."""
        wanted = target.after["mig_mode"]["current"]
        why = {_nvml.IN_USE: "it is in use", _nvml.RESET_REQUIRED: "it has to be reset"}.get(
            status, f"NVML says {status}"
        )
        holders = ", ".join(f"{one['name']} (pid {one['pid']})" for one in self._holders(target))
        held = f" by {holders}" if holders and status == _nvml.IN_USE else ""
        sentence = f"MIG {wanted} is only pending, because {why}{held}; {said}"
        if self._undoing or "reboot" not in self.ways:
            cause = NvmlError(sentence, status, "nvmlDeviceSetMigMode")
            raise StepError(target.before, f"setting MIG to {wanted}", cause)
        self.waiting[target.uuid] = f"{describe(target.before)}: {sentence}. A reboot of the host brings it."

    def _holders(self, target: Target) -> list[dict[str, Any]]:
        """Other processes that hold the GPU's device node open."""
        minor = self.nvml.ask("nvmlDeviceGetMinorNumber", self.nvml.device(target.uuid))
        found = [] if minor is None else _host.openers(int(minor))
        return [one for one in found if one["pid"] != os.getpid()]

    def _fill_and_check(self, target: Target) -> None:
        """Create what is missing, then read the GPU and compare it with what is wanted, exactly."""
        before, wanted = target.before, target.after
        if target.uuid in self.waiting:
            wanted = waiting(before, wanted)
        elif before["mig_mode"]["current"] != wanted["mig_mode"]["current"]:
            now = self._do(target, "reading it", read_gpu, self.nvml, target.uuid)
            before, wanted = now, in_words_of(now, wanted)
            self._fill(target, before, wanted)
        else:
            self._fill(target, before, wanted)
        now = self._do(target, "reading it back", read_gpu, self.nvml, target.uuid)
        if shape(now) != shape(wanted):
            raise StepError(target.before, "the change", MigError(f"wanted is {line(wanted)}; NVML has {line(now)}"))
        self.read_back[target.uuid] = now

    def _fill(self, target: Target, before: Gpu, wanted: Gpu) -> None:
        there = {place(instance): instance for instance in before["instances"]}
        for instance in wanted["instances"]:
            stands = there.get(place(instance))
            inside = {place(ci) for ci in stands["compute_instances"]} if stands else set()
            missing = [ci for ci in instance["compute_instances"] if place(ci) not in inside]
            if stands is not None and not missing:
                continue
            handle = self._instance(target, stands) if stands else self._create(target, before, instance)
            profiles = self._do(target, f"asking {_at(instance)}", compute_profile_infos, self.nvml, handle)
            for ci in missing:
                self._create_inside(target, instance, handle, profiles, ci)

    def _create(self, target: Target, before: Gpu, instance: Gpu) -> Any:
        row = next(row for row in before["profiles"] if row["name"] == instance["profile"])
        device = self._do(target, f"creating {_at(instance)}", self.nvml.device, target.uuid)
        arguments = device, row["id"], instance["start"], instance["size"]
        return self._do(target, f"creating {_at(instance)}", self.nvml.create_gpu_instance, *arguments)

    def _create_inside(self, target: Target, instance: Gpu, handle: Any, profiles: Mapping[int, Any], ci: Gpu) -> None:
        what = f"creating compute instance {ci['profile']} in {_at(instance)}"
        profile = next((number for number, info in profiles.items() if int(info.sliceCount) == ci["size"]), None)
        if profile is None:
            raise StepError(target.before, what, MigError(f"NVML has no compute instance of {ci['size']} slices there"))
        self._do(target, what, self.nvml.create_compute_instance, handle, profile, ci["start"], ci["size"])


def _restored(now: Gpu, before: Gpu) -> Gpu:
    """What stood before. A mode that was pending then and has been taken since cannot be made pending again."""
    mode = before["mig_mode"]["current"]
    return (
        before if now["mig_mode"] == before["mig_mode"] else {**before, "mig_mode": {"current": mode, "pending": mode}}
    )


def _at(instance: Gpu) -> str:
    return f"{instance['profile']} at {instance['start']}"


def _by_id(name: str, owner: Any, instance: Gpu) -> tuple[str, Any, int]:
    return f"{name}ById", owner, int(instance["ci_id"])
