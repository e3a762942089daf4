# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The helm binary, 3.13 and newer and 4.x: the only file that runs it.

Values reach helm through its standard input (``--values -``), so they are in no file and on no command line.
Flags whose meaning changed between 3 and 4 (--wait, --atomic, --force) are not used: waiting is done by ``_rollout``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _lock
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import forbidden

OLDEST = (3, 13)  # the first with --dry-run=server
HISTORY_MAX = 10
# Lines on standard error that are no part of the error.
_NOISE = re.compile(r"(WARNING|level=|time=|[WI]\d{4} |\d{4}/\d\d/\d\d |Warning:|Pulled:|Digest:|Use --debug)")
_FOREIGN = re.compile(r"(\S+ \S+) in namespace \S* ?exists and cannot be imported")


class HelmError(MigError):
    """helm refused; ``stderr`` is what it said."""

    def __init__(self, message: str, *, stderr: str, **context: Any) -> None:
        super().__init__(message, stderr=stderr, **context)
        self.stderr = stderr


@dataclass(frozen=True)
class Revision:
    """One line of a release's history. ``chart`` is name-version; ``updated`` an RFC 3339 time."""

    number: int
    status: str
    chart: str
    app_version: str
    updated: str


@dataclass(frozen=True)
class Release:
    """A stored or rendered release: the user's values and the manifest without hooks."""

    number: int
    manifest: str
    values: dict[str, Any]
    chart: str


@dataclass(frozen=True)
class ChartSource:
    """Where a chart comes from: a directory, a .tgz, an oci:// reference, a URL, or a name in ``repo``.

    ``checksum``: sha256:HEX of its archive.
    """

    reference: str
    repo: str | None = None
    version: str | None = None
    plain_http: bool = False
    checksum: str | None = None

    def __str__(self) -> str:
        return self.reference + (f" {self.version}" if self.version else "") + (f" of {self.repo}" if self.repo else "")

    @property
    def local(self) -> Path | None:
        """The path, where it is one on this machine; raises where it can only be meant as a path and is not there."""
        if self.repo or "://" in self.reference:
            return None
        path = Path(self.reference).expanduser()
        if path.exists():
            return path
        if self.reference.startswith(("/", ".", "~")) or self.reference.endswith(".tgz"):
            raise MigError(f"Chart {self.reference} does not exist on the machine that runs this module.")
        if "/" not in self.reference:
            raise MigError(
                f"Chart {self.reference} is neither a directory nor an archive on the machine that runs this module: "
                "give a path, an oci:// reference, or repo with the chart's name."
            )
        return None

    def check(self, path: Path) -> None:
        """MigError where the archive at `path` has another checksum."""
        if not self.checksum:
            return
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", self.checksum):
            raise MigError(
                f"checksum is {self.checksum!r}; write sha256: and 64 hexadecimal digits. Nothing was changed."
            )
        if path.is_dir():
            raise MigError(
                f"Chart {self} is a directory, which has no checksum: give its archive (helm package), or leave "
                "checksum out. Nothing was changed."
            )
        found = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        if found != self.checksum:
            raise MigError(f"Chart {self} has {found}, wanted is {self.checksum}. Nothing was changed.")


class Helm:
    """The binary together with the cluster and namespace that it works on.

    ``keep`` is called again and again while helm runs; what it raises stops helm (the roll-out lock was lost).
    """

    def __init__(
        self,
        binary: str | None,
        namespace: str,
        kubeconfig: str | None = None,
        context: str | None = None,
        keep: Callable[[], None] = _lock.no_lock,
    ) -> None:
        self.binary = _find(binary)
        self.keep = keep
        self.namespace = namespace
        self._cluster = ["--namespace", namespace]
        if kubeconfig:
            self._cluster += ["--kubeconfig", kubeconfig]
        if context:
            self._cluster += ["--kube-context", context]
        self.version = self._version()

    def _version(self) -> tuple[int, int]:
        said = self.run("version", "--template", "{{.Version}}", cluster=False)
        found = re.match(r"v?(\d+)\.(\d+)", said.strip())
        if not found:
            raise MigError(f"{self.binary} does not say which helm it is (it answered {said.strip()[:80]!r}).")
        version = (int(found[1]), int(found[2]))
        if version < OLDEST:
            raise MigError(
                f"{self.binary} is helm {version[0]}.{version[1]}; wanted is {OLDEST[0]}.{OLDEST[1]} or newer, or 4.x."
            )
        return version

    def run(
        self, *arguments: str, values: Mapping[str, Any] | None = None, timeout: float = 120, cluster: bool = True
    ) -> str:
        """Standard output of one helm command; ``values`` go to its standard input. HelmError where it fails."""
        command = [self.binary, *arguments, *(self._cluster if cluster else [])]
        text = None
        if values is not None:
            command += ["--values", "-"]
            text = json.dumps(values)
        try:
            code, said, complaint = self._finish(command, text, timeout)
        except OSError as error:
            raise MigError(f"{self.binary} cannot be run: {error.strerror}.") from error
        except subprocess.TimeoutExpired as error:
            raise MigError(
                f"helm {arguments[0]} did not end within {timeout:g} s and was stopped; run again, the release is put "
                "right then.",
            ) from error
        if code != 0:
            raise HelmError(_sentence(arguments[0], complaint), stderr=complaint.strip())
        return said

    def _finish(self, command: Sequence[str], text: str | None, timeout: float) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        deadline = time.monotonic() + timeout
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        ) as process:
            try:
                while True:
                    left = deadline - time.monotonic()
                    try:
                        said, complaint = process.communicate(text, min(left, _lock.between(self.keep)))
                        return process.returncode, said, complaint
                    except subprocess.TimeoutExpired:
                        if time.monotonic() >= deadline:
                            raise
                    text = None  # it has it
                    self.keep()
            finally:
                process.kill()  # no effect on one that has ended

    # reading

    def history(self, name: str) -> list[Revision]:
        """Revisions, oldest first; [] where there is no such release."""
        try:
            answer = self.run("history", name, "--max", str(HISTORY_MAX * 2), "--output", "json")
        except HelmError as error:
            if "release: not found" in error.stderr:
                return []
            raise
        return [
            Revision(
                number=int(entry["revision"]),
                status=str(entry["status"]),
                chart=str(entry["chart"]),
                app_version=str(entry.get("app_version") or ""),
                updated=str(entry.get("updated") or ""),
            )
            for entry in sorted(json.loads(answer), key=lambda entry: int(entry["revision"]))
        ]

    def stored(self, name: str, revision: Revision) -> Release:
        """One stored revision with its manifest and values."""
        answer = json.loads(self.run("status", name, "--revision", str(revision.number), "--output", "json"))
        return Release(
            number=revision.number,
            manifest=str(answer.get("manifest") or ""),
            values=answer.get("config") or {},
            chart=revision.chart,
        )

    def fetch(self, source: ChartSource, folder: Path) -> Path:
        """The chart as a path on this machine, downloaded into ``folder`` where it is remote; its checksum holds."""
        path = source.local or self._pull(source, folder)
        source.check(path)
        return path

    def _pull(self, source: ChartSource, folder: Path) -> Path:
        tagged = re.search(r"(:[^/]+|@sha256:[0-9a-f]+)$", source.reference.partition("://")[2])
        if not source.version and not tagged and not source.reference.endswith(".tgz"):
            raise MigError(f"Chart {source}: give version, so that each run installs the same chart.")
        extra = ["--repo", source.repo] if source.repo else []
        extra += ["--version", source.version] if source.version else []
        extra += ["--plain-http"] if source.plain_http else []
        try:
            self.run("pull", source.reference, *extra, "--destination", str(folder), cluster=False)
        except HelmError as error:
            raise HelmError(f"Chart {source} cannot be fetched: {_plain(error.stderr)}", stderr=error.stderr) from error
        found = sorted(folder.glob("*.tgz"))
        if not found:
            raise MigError(f"Chart {source}: helm pull left no archive.")
        return found[0]

    def dry_run(self, name: str, path: Path, values: Mapping[str, Any], chart: str) -> Release:
        """What an install or upgrade would store, rendered against the cluster (its version, kinds and lookups)."""
        answer = self.run(
            *("upgrade", name, str(path), "--install", "--reset-values", "--dry-run=server", "--skip-crds"),
            *("--output", "json"),
            values=values,
        )
        rendered = json.loads(answer)
        return Release(
            number=int(rendered.get("version") or 0),
            manifest=str(rendered.get("manifest") or ""),
            values=dict(values),
            chart=chart,
        )

    def template(
        self,
        name: str,
        path: Path,
        values: Mapping[str, Any],
        *,
        upgrade: bool = False,
        crds: bool = False,
        kinds: Sequence[str] = (),
    ) -> str:
        """The chart rendered without the cluster, hooks left out; ``kinds`` (group/version/Kind) count as there."""
        extra = ["--no-hooks", "--include-crds" if crds else "--skip-crds"]
        if upgrade:
            extra.append("--is-upgrade")
        for kind in kinds:
            extra += ["--api-versions", kind]
        return self.run("template", name, str(path), *extra, values=values)

    # writing

    def upgrade(
        self, name: str, path: Path, values: Mapping[str, Any], *, create_namespace: bool, skip_crds: bool, timeout: int
    ) -> None:
        """Install or upgrade. Hooks are waited for by helm, up to ``timeout`` seconds each."""
        extra = ["--create-namespace"] if create_namespace else []
        extra += ["--skip-crds"] if skip_crds else []
        extra += ["--history-max", str(HISTORY_MAX), "--timeout", f"{timeout}s", "--output", "json"]
        # --reset-values: with no values at all helm would take those of the revision before
        self.run("upgrade", name, str(path), "--install", "--reset-values", *extra, values=values, timeout=timeout + 60)

    def rollback(self, name: str, revision: int, timeout: int) -> None:
        """Make a new revision that equals an old one."""
        extra = ("--history-max", str(HISTORY_MAX), "--timeout", f"{timeout}s")
        self.run("rollback", name, str(revision), *extra, timeout=timeout + 60)

    def uninstall(self, name: str, timeout: int) -> None:
        """Remove the release and its objects, and wait until they are gone. CRDs stay."""
        self.run("uninstall", name, "--wait", "--timeout", f"{timeout}s", timeout=timeout + 60)


def chart_name(path: Path) -> str:
    """name-version of a chart on this machine, as the history shows it."""
    import yaml  # comes with ansible-core

    try:
        if path.is_dir():
            text = (path / "Chart.yaml").read_bytes()
        else:
            with tarfile.open(path) as archive:
                member = next(name for name in archive.getnames() if re.fullmatch(r"(\./)?[^/]+/Chart\.yaml", name))
                found = archive.extractfile(member)
                text = found.read() if found else b""
        metadata = yaml.safe_load(text)
        return f"{metadata['name']}-{metadata['version']}"
    except (OSError, tarfile.TarError, StopIteration, yaml.YAMLError, KeyError, TypeError) as error:
        raise MigError(
            f"{path} is not a usable chart: its Chart.yaml cannot be read or lacks name or version."
        ) from error


def may_hold_crds(path: Path) -> bool:
    """False only where neither the chart nor a subchart has a crds folder (saves rendering the chart once more)."""
    if path.is_dir():
        members = [str(found.relative_to(path)) for found in path.rglob("*")]
    else:
        try:
            with tarfile.open(path) as archive:
                members = archive.getnames()
        except (tarfile.TarError, OSError) as error:
            raise MigError(f"{path} is neither a chart directory nor a chart archive: {error}") from error
    return any("crds" in Path(member).parts or re.search(r"charts/[^/]+\.tgz$", member) for member in members)


def _find(binary: str | None) -> str:
    found = shutil.which(str(Path(binary).expanduser()) if binary else "helm")
    if found:
        return found
    if binary:
        raise MigError(f"The helm binary {binary} is not there or not executable on the machine that runs this module.")
    raise MigError(
        "The helm binary is not on the PATH of the machine that runs this module: install helm 3.13 or newer, or give "
        "its path with helm_binary."
    )


def _environment() -> dict[str, str]:
    """Without what would point helm at another cluster or namespace than the rest of the module works on."""
    dropped = ("HELM_KUBE", "HELM_NAMESPACE", "HELM_DEBUG")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


def _plain(stderr: str) -> str:
    """helm's own error without warnings, log prefixes and the word Error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if not _NOISE.match(line)]
    text = " ".join(errors or lines) or "it said nothing"
    return re.sub(r"^(Error|ERROR): ((INSTALLATION|UPGRADE|ROLLBACK|UNINSTALL) FAILED: )?", "", text).rstrip(".")


def _sentence(command: str, stderr: str) -> str:
    """One sentence for what helm said: what failed and, where it is known, what to do."""
    text = _plain(stderr)
    refused = re.search(r"execution error at \(([^)]*)\): (.*)", text)
    if refused:
        template = refused[1].partition(":")[0]
        return f"The chart refuses ({template}): {refused[2]}"
    missing = re.search(r'namespaces "([^"]+)" not found', text)
    if missing:
        return f"Namespace {missing[1]} does not exist: make it, or set create_namespace: true."
    denied = forbidden(text)
    if denied:
        return denied
    if "cluster unreachable" in text or "connection refused" in text:
        return f"helm {command} cannot reach the Kubernetes API: {text}"
    foreign = _FOREIGN.search(text)
    if foreign:
        return (
            f"{foreign[1]} exists already and does not belong to this release: remove it, or uninstall the release "
            f"that made it. ({text})"
        )
    return f"helm {command} failed: {text}"
