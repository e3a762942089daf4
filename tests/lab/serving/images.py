# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Make the images that serving needs: Triton Inference Server and its client under NVIDIA's names, and kube-proxy.

    python -m lab.serving.images --out DIR --wheels DIR --python-tree DEBIAN_TREE --simulator DIR --kube-proxy FILE

Triton comes from the wheel nvidia-pytriton, laid out as in NVIDIA's image: /opt/tritonserver/{bin,backends}. Its
libraries find each other by paths relative to themselves, so they lie at /nvidia_pytriton.libs. Python comes from the
Debian tree.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

from lab.images.build import (
    INJECTED,
    Image,
    Tree,
    add_libraries,
    add_program,
    base_tree,
    libraries,
    write_archive,
)

TRITON = "nvcr.io/nvidia/tritonserver:24.10-py3"
CLIENT = f"{TRITON}-sdk"
_PYTHON = "python3.11"
_PACKAGES = f"usr/lib/{_PYTHON}/dist-packages/"
_STUB = "pytriton/tritonserver/python_backend_stubs/3.11/"
_LIBRARY = f"usr/lib/x86_64-linux-gnu/lib{_PYTHON}.so.1.0"
# Where the parts of the wheel go; the rest of it is the Python package around the server.
_PLACES = {
    "nvidia_pytriton.libs/": "nvidia_pytriton.libs/",
    "pytriton/tritonserver/bin/": "opt/tritonserver/bin/",
    "pytriton/tritonserver/backends/": "opt/tritonserver/backends/",
    _STUB: "opt/tritonserver/backends/python/",
}
_PROGRAMS = (
    "opt/tritonserver/bin/tritonserver",
    "opt/tritonserver/backends/python/libtriton_python.so",
    "opt/tritonserver/backends/python/triton_python_backend_stub",
)


def _add_wheel(tree: Tree, wheel: Path, places: dict[str, str], scratch: Path) -> None:
    """Files of a wheel into the tree, and unpacked into `scratch` for the loader to look at."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            for prefix, place in places.items():
                if entry.filename.startswith(prefix) and not entry.is_dir():
                    target = place + entry.filename.removeprefix(prefix)
                    mode = 0o755 if target in _PROGRAMS or ".so" in PurePosixPath(target).name else 0o644
                    tree.file(target, archive.read(entry), mode)
                    unpacked = scratch / target
                    unpacked.parent.mkdir(parents=True, exist_ok=True)
                    unpacked.write_bytes(archive.read(entry))
                    unpacked.chmod(mode)


def _add_python(tree: Tree, debian: Path) -> None:
    """The interpreter and its standard library, without what only builds and tests need."""
    add_program(tree, debian / "usr" / "bin" / _PYTHON, f"usr/bin/{_PYTHON}")
    tree.link("usr/bin/python3", _PYTHON)
    library = debian / "usr" / "lib" / _PYTHON
    for file in sorted(library.rglob("*")):
        below = file.relative_to(library)
        if file.is_file() and not {"__pycache__", "test", "ensurepip", "idlelib"} & set(below.parts):
            tree.file(f"usr/lib/{_PYTHON}/{below}", file.read_bytes())
            if below.suffix == ".so":
                add_libraries(tree, file)
    add_program(tree, Path("/") / _LIBRARY, _LIBRARY)
    tree.link(_LIBRARY.removesuffix(".0"), PurePosixPath(_LIBRARY).name)


def _add_foreign_libraries(tree: Tree, program: Path, scratch: Path) -> None:
    """What a program of a wheel is linked with beside the wheel's own libraries."""
    for library in libraries(program):
        if scratch not in library.resolve().parents:
            tree.file(f"usr/{str(library).removeprefix('/').removeprefix('usr/')}", library.read_bytes(), 0o755)


def triton_image(wheels: Path, debian: Path, simulator: Path, scratch: Path) -> Image:
    """Server, Python backend, Python with numpy. nvidia-smi comes by CDI, as on a real node."""
    tree = base_tree()
    (server,) = wheels.glob("nvidia_pytriton-*.whl")
    (numpy,) = wheels.glob("numpy-*.whl")
    _add_wheel(tree, server, _PLACES, scratch)
    _add_wheel(tree, numpy, {"numpy": f"{_PACKAGES}numpy"}, scratch)
    _add_python(tree, debian)
    # The Python backend starts its processes through bash, after a try of its stub through sh.
    add_program(tree, debian / "usr" / "bin" / "bash", "usr/bin/bash")
    tree.link("usr/bin/sh", "bash")
    for program in _PROGRAMS:
        _add_foreign_libraries(tree, scratch / program, scratch)
    for name in INJECTED:
        add_libraries(tree, simulator / name)
    # Found before the node's own, which simulates no CUDA.
    library = scratch / "libcuda.so"
    source = Path(__file__).with_name("libcuda.c")
    subprocess.run(["cc", "-Os", "-s", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
    tree.file("opt/lab/libcuda.so", library.read_bytes(), 0o755)
    variables = {
        "PATH": "/opt/tritonserver/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": "/opt/lab",
        "PYTHONPATH": f"/{_PACKAGES}".rstrip("/"),
        # as in NVIDIA's image: without a request it must not bring the node's devices
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
    }
    return Image(TRITON, tree, command=["tritonserver"], variables=variables)


def client_image(wheels: Path, debian: Path, scratch: Path) -> Image:
    """Python with tritonclient over HTTP and gRPC, without the load generators of NVIDIA's image."""
    tree = base_tree()
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        if name != "nvidia_pytriton":
            inside = f"{name}-{version}.data/purelib/" if name == "tritonclient" else ""
            _add_wheel(tree, wheel, {inside: _PACKAGES}, scratch)
    _add_python(tree, debian)
    for module in sorted((scratch / _PACKAGES).rglob("*.cpython-*.so")):
        _add_foreign_libraries(tree, module, scratch)
    return Image(CLIENT, tree, command=["python3"], variables={"PYTHONPATH": f"/{_PACKAGES}".rstrip("/")})


def proxy_image(kube_proxy: Path, version: str) -> Image:
    """kube-proxy and nft, which it writes its rules with."""
    tree = base_tree()
    add_program(tree, kube_proxy, "usr/bin/kube-proxy")
    add_program(tree, Path("/usr/sbin/nft"), "usr/sbin/nft")
    return Image(f"registry.k8s.io/kube-proxy:{version}", tree, command=["kube-proxy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("out", "wheels", "python-tree", "simulator", "kube-proxy"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--kubernetes", required=True, help="version of kube-proxy, the tag of its image")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    scratch = chosen.out / "unpacked"
    triton = triton_image(chosen.wheels, chosen.python_tree, chosen.simulator, scratch / "server")
    client = client_image(chosen.wheels, chosen.python_tree, scratch / "client")
    proxy = proxy_image(chosen.kube_proxy, chosen.kubernetes)
    shutil.rmtree(scratch)
    for name, image in (("triton", triton), ("client", client), ("kube-proxy", proxy)):
        print(f"{name}.tar  {image.reference}  {write_archive(image, chosen.out / f'{name}.tar')}", flush=True)


if __name__ == "__main__":
    main()
