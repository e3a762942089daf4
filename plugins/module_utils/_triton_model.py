# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A model of a Triton repository: which backend it needs and which GPUs it wants to see. Pure.

The rules are those of Triton's model configuration and model repository pages
(https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _pbtxt

# `platform`, and the file of a version folder that Triton completes a configuration from.
PLATFORMS = {
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
    "ensemble": "ensemble",
}
FILES = {
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.pt": "pytorch",
    "model.graphdef": "tensorflow",
    "model.savedmodel": "tensorflow",
    "model.xml": "openvino",
    "model.py": "python",
    "model.dali": "dali",
}
BUILT_IN = ("ensemble",)


@dataclass(frozen=True)
class Model:
    """What the checks need to know of one model. ``steps`` are the models that an ensemble calls."""

    name: str
    backend: str | None
    gpus: tuple[int, ...]
    steps: tuple[str, ...]
    problems: tuple[str, ...]


def read_model(name: str, config: str | None, versions: Iterable[str], files: Iterable[str]) -> Model:
    """From the text of config.pbtxt (None: there is none), the version folders, and the paths of the folder's files."""
    paths = [PurePosixPath(path) for path in files]
    try:
        said = _pbtxt.parse(config or "")
    except _pbtxt.PbtxtError as error:
        return Model(name, None, (), (), (f"model {name}: config.pbtxt cannot be read: {error}",))
    problems = []
    inside = _first(said, "name")
    if inside is not None and inside != name:
        problems.append(f"model {name}: config.pbtxt calls it {inside!r}, but Triton wants the name of its folder")
    backend = _backend(said, [path.parts[1] for path in paths if len(path.parts) > 1])
    if backend is None:
        problems.append(
            f"model {name}: neither config.pbtxt (backend, platform) nor a file of a version folder "
            f"({', '.join(sorted(FILES))}) tells its backend"
        )
    if not any(version.isdigit() for version in versions):  # an ensemble needs one as well, it may be empty
        problems.append(f"model {name}: its folder has no version, that is a folder called 1, 2, ...")
    steps = [step for scheduling in said.get("ensemble_scheduling", []) for step in scheduling.get("step", [])]
    return Model(
        name,
        backend,
        tuple(sorted(set(_gpus(said)))),
        tuple(str(called) for step in steps for called in step.get("model_name", [])),
        tuple(problems),
    )


def _first(message: Mapping[str, list[Any]], field: str) -> Any:
    values = message.get(field)
    return values[-1] if values else None


def _backend(said: Mapping[str, list[Any]], files: Iterable[str]) -> str | None:
    if said.get("backend"):
        return str(_first(said, "backend"))
    platform = _first(said, "platform")
    if platform:
        return PLATFORMS.get(str(platform), str(platform))
    return next((FILES[file] for file in files if file in FILES), None)


def _gpus(said: Mapping[str, list[Any]]) -> Iterable[int]:
    """Every GPU index that an instance group names; KIND_CPU and KIND_MODEL place nothing on a GPU by index."""
    for group in said.get("instance_group", []):
        if _first(group, "kind") not in ("KIND_CPU", "KIND_MODEL"):
            yield from (int(index) for index in group.get("gpus", []))
