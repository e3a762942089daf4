# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton on 1, 2, 4 and 7 instances of one simulated GPU: requests a second, p99, and how evenly replicas are reached.

The image is on every node before. Bound by this machine's CPUs, which all replicas and the client share: it shows no
gain of more instances, only that each is reached. Needs the lab with its demo (make demo); without it, it says so and
measures nothing.
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks.figures import figure
from lab.conftest import LAB, play
from lab.serving_lab import ask, client, prepare, remove, serve

# kube-proxy draws lots for each connection: with so many for each replica chance alone stays well below the target.
REQUESTS_EACH = 600
SPREAD = 1.2


def timed_serve(replicas: int) -> float:
    """Seconds of the playbook, which ends when all replicas are ready."""
    group = {"name": "small", "resource": "nvidia.com/gpu", "nodes": ["a100-single"], "replicas": replicas}
    begun = time.monotonic()
    serve([group])
    return time.monotonic() - begun


def main() -> int:
    if not (LAB / "kubeconfig").exists():
        print("bench_serve: the lab is not running (make demo): nothing was measured.", file=sys.stderr)
        return 0
    play("site.yml", "--limit", "a100-single")
    prepare()
    good = True
    try:
        with client():
            for replicas in (1, 2, 4, 7):
                timed_serve(replicas)
                load = ask(REQUESTS_EACH * replicas, threads=4)
                if load.failures:
                    raise SystemExit(f"{len(load.failures)} requests failed: {load.failures[0]}")
                name = f"serve, {replicas} replica{'s' if replicas > 1 else ''}"
                figure(f"{name}: requests a second", len(load.seconds) / load.took, "1/s")
                figure(f"{name}: p99", statistics.quantiles(load.seconds, n=100)[98] * 1000, "ms")
                if replicas > 1:
                    spread = max(load.answers.values()) / min(load.answers.values())
                    good &= figure(f"{name}: busiest to idlest", spread, "x", SPREAD)
        remove()
        figure("serve, 7 replicas: playbook until all are ready, models loaded", timed_serve(7), "s")
        figure("serve, 7 replicas that are ready: playbook", timed_serve(7), "s")
    finally:
        remove()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
