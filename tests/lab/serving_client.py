# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Runs in a pod (python3 - < this file): asks a Service over HTTP, a new connection for each request, and counts.

    python3 - ADDRESS MODEL REQUESTS THREADS [STOP_FILE]

With a stop file it goes on until that exists. Prints one JSON object: answers per partition, which replica has which,
seconds of each request, failures in words.
"""

import json
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

ADDRESS, MODEL = sys.argv[1:3]
REQUESTS, THREADS = int(sys.argv[3]), int(sys.argv[4])
STOP = Path(sys.argv[5]) if len(sys.argv) > 5 else None
BODY = {"inputs": [{"name": "ASK", "shape": [1], "datatype": "INT32", "data": [1]}]}

answers: dict[str, int] = {}
pairs: set[tuple[str, str]] = set()
seconds: list[float] = []
failures: list[str] = []
lock = threading.Lock()
left = REQUESTS


def take() -> bool:
    """Whether one more request is to be made."""
    global left
    with lock:
        if STOP is not None:
            return not STOP.exists()
        left -= 1
        return left >= 0


def ask() -> dict[str, Any]:
    """One request; outputs by name."""
    connection = HTTPConnection(ADDRESS, timeout=10)
    try:
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(BODY))
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {told.decode()[:200]}")
        return {each["name"]: each["data"] for each in json.loads(told)["outputs"]}
    finally:
        connection.close()


def work() -> None:
    """Ask until there is no more to ask."""
    while take():
        begun = time.perf_counter()
        try:
            told = ask()
        except (OSError, HTTPException, ValueError, KeyError) as error:
            with lock:
                failures.append(f"{type(error).__name__}: {error}")
            continue
        with lock:
            seconds.append(time.perf_counter() - begun)
            uuid, replica = ",".join(told["UUID"]), told["REPLICA"][0]
            answers[uuid] = answers.get(uuid, 0) + 1
            pairs.add((uuid, replica))


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
