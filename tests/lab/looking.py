# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The cluster seen from outside, ten times a second."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lab.conftest import LAB

T = TypeVar("T")
EVERY_S = 0.1


@contextmanager
def looked(path: str, of: Callable[[Any], T]) -> Iterator[list[tuple[float, T]]]:
    """(seconds, what `of` makes of the answer to GET `path`) of each look while the block runs."""
    command = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(LAB / "kubeconfig"), "proxy", "--port=0"]
    seen: list[tuple[float, T]] = []
    stop = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout
        address = f"http://{proxy.stdout.readline().split()[-1]}{path}"

        def look() -> None:
            while not stop.wait(EVERY_S):
                with urllib.request.urlopen(address, timeout=30) as answer:
                    seen.append((time.monotonic(), of(json.loads(answer.read()))))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()
            proxy.terminate()
