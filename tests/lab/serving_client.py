# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Runs in a pod (python3 - < this file): asks Triton with NVIDIA's tritonclient and counts.

    python3 - PROTOCOL ADDRESS MODEL REQUESTS THREADS [STOP_FILE]

Over http every request is a connection of its own; over grpc the client keeps one to each of the addresses and takes
them in turn. With a stop file it goes on until that exists, slowly: the machine is left to others.
Prints one JSON object: answers per partition, which replica has which, seconds of each request, failures in words.
"""

import json
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

PROTOCOL, ADDRESS, MODEL = sys.argv[1:4]
REQUESTS, THREADS = int(sys.argv[4]), int(sys.argv[5])
PACE = 0.02  # seconds
STOP = Path(sys.argv[6]) if len(sys.argv) > 6 else None
numpy, triton = import_module("numpy"), import_module(f"tritonclient.{PROTOCOL}")
if PROTOCOL == "grpc":
    balanced = triton.InferenceServerClient(ADDRESS, channel_args=[("grpc.lb_policy_name", "round_robin")])
question = triton.InferInput("ASK", [1], "INT32")
question.set_data_from_numpy(numpy.ones(1, numpy.int32))
answers: dict[str, int] = {}
pairs: set[tuple[str, str]] = set()
seconds: list[float] = []
failures: list[str] = []
lock = threading.Lock()
left = REQUESTS


def take() -> bool:
    """Whether one more request is to be made."""
    global left
    if STOP is not None:
        time.sleep(PACE)
        return not STOP.exists()
    with lock:
        left -= 1
        return left >= 0


def ask() -> Any:
    """The answer to one request."""
    if PROTOCOL == "grpc":
        return balanced.infer(MODEL, [question], client_timeout=10)
    with triton.InferenceServerClient(ADDRESS, connection_timeout=10, network_timeout=10) as client:
        return client.infer(MODEL, [question])


def work() -> None:
    """Ask until there is no more to ask."""
    while take():
        begun = time.perf_counter()
        try:
            told = ask()
            uuids, (replica,) = told.as_numpy("UUID"), told.as_numpy("REPLICA")
        except Exception as error:  # whatever a user would see is a failed request
            with lock:
                failures.append(f"{type(error).__name__}: {error}")
            continue
        with lock:
            seconds.append(time.perf_counter() - begun)
            uuid = b",".join(uuids).decode()
            answers[uuid] = answers.get(uuid, 0) + 1
            pairs.add((uuid, replica.decode()))


begun = time.perf_counter()
threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(
    json.dumps(
        {
            "answers": answers,
            "pairs": sorted(pairs),
            "seconds": seconds,
            "failures": failures,
            "took": time.perf_counter() - begun,
        }
    )
)
