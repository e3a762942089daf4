# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Commands, waiting for conditions, folders that appear whole or not at all, and digests of files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .console import say
from .settings import LabError

# A command ends with us, also when we are killed: what `down` cannot know must not go on by itself.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# The same for all that the command starts (compilers, dpkg), and for what it mounts.
_ALL_WITH_US = (*_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def ending_with_us(command: Sequence[str], whole_tree: bool = False) -> list[str]:
    """A command line whose process (with `whole_tree`: and all its descendants and mounts) does not outlive ours."""
    if shutil.which(command[0]) is None:
        raise LabError(f"{command[0]} is not installed on this machine, or may not be run.")
    return [*(_ALL_WITH_US if whole_tree else _WITH_US), *command]


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
    whole_tree: bool = False,
) -> str:
    """Run a command and return its standard output; LabError with its last words when it fails."""
    argv = [str(part) for part in command]
    try:
        result = subprocess.run(
            ending_with_us(argv, whole_tree),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)} did not end within {timeout_s:.0f} s.") from error
    if result.returncode != 0:
        last_words = (result.stderr or result.stdout).strip()[-3000:]
        raise LabError(f"{' '.join(argv)} exited {result.returncode}:\n{last_words}")
    return result.stdout


def succeeds(*command: str | Path, env: Mapping[str, str] | None = None) -> bool:
    """Whether a command can be run and exits 0."""
    try:
        run(*command, env=env)
    except LabError:
        return False
    return True


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float, hint: str = "", every_s: float = 0.1
) -> None:
    """Poll a condition; LabError naming what was waited for when it does not come true."""
    begin = time.monotonic()
    reminded = begin
    while not condition():
        now = time.monotonic()
        if now - begin > timeout_s:
            raise LabError(f"{what}: not so after {timeout_s:.0f} s.{' ' + hint if hint else ''}")
        if now - reminded > 10:
            say(f"waiting: {what} ({now - begin:.0f} of at most {timeout_s:.0f} s)")
            reminded = now
        time.sleep(every_s)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its name only when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(abandoned)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch)
        raise
    if target.exists():
        shutil.rmtree(target)
    scratch.rename(target)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold an exclusive lock file; when another process has it, say `busy` and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(busy)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def digest_of(parts: Iterable[str | bytes | Path]) -> str:
    """12 hex digits over strings, files and folders (names, modes' x-bit and contents of all files in them)."""
    total = hashlib.sha256()

    def feed(data: str | bytes) -> None:
        raw = data.encode() if isinstance(data, str) else data
        total.update(len(raw).to_bytes(8, "big") + raw)

    for part in parts:
        if not isinstance(part, Path):
            feed(part)
            continue
        if not part.exists():
            raise LabError(f"{part} is missing.")
        files = sorted(file for file in part.rglob("*") if file.is_file()) if part.is_dir() else [part]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            feed(str(file.relative_to(part)))
            feed(str(os.access(file, os.X_OK)))
            feed(file.read_bytes())
    return total.hexdigest()[:12]


def write(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file whole, with its mode from the first moment on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(content)
    scratch.rename(path)
