# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Progress lines: what is being done, for how long already, and how long it takes as a rule."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_START = time.monotonic()
_LOCK = threading.Lock()


def say(text: str) -> None:
    """One line with the time since the command began; safe from several threads."""
    with _LOCK:
        print(f"[{time.monotonic() - _START:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, estimate_s: float | None = None, every_s: float = 20.0) -> Iterator[None]:
    """Announce a long step, tell every `every_s` seconds that it still runs, and how long it took."""
    expected = f" (about {estimate_s:.0f} s)" if estimate_s else ""
    say(f"{what} ...{expected}")
    begin = time.monotonic()
    over = threading.Event()

    def remind() -> None:
        while not over.wait(every_s):
            say(f"{what}: {time.monotonic() - begin:.0f} s so far{expected}")

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    except BaseException:
        say(f"{what}: stopped after {time.monotonic() - begin:.1f} s")
        raise
    else:
        say(f"{what}: done in {time.monotonic() - begin:.1f} s")
    finally:
        over.set()
        reminder.join()
