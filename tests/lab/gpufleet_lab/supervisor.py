#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Process 1 of a simulated host, and of the control plane: starts services, keeps them running, reaps orphans.

Stands alone (standard library only): a host's own Python runs it inside the host. Usage: supervisor.py SPEC.json,
    {"socket": PATH, "services": [{"name", "command": [...], "environment": {...}, "log": PATH, "needs": [PATH...]}]}
A service starts once all paths it needs exist. The socket takes one line "OPERATION SERVICE" per connection
(start, stop, restart, status) and answers one line of JSON.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

RESTART_DELAY_S = 0.5
STOP_GRACE_S = 5.0
TICK_S = 0.1


class Service:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.command: list[str] = spec["command"]
        self.environment: dict[str, str] = spec.get("environment", {})
        self.log: str = spec["log"]
        self.needs: list[str] = spec.get("needs", [])
        self.wanted = True
        self.pid: int | None = None
        self.starts = 0
        self.not_before = 0.0
        self.kill_at: float | None = None

    def start(self) -> None:
        Path(self.log).parent.mkdir(parents=True, exist_ok=True)
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        self.starts += 1
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for number, source in enumerate((nothing, output, output)):
                    os.dup2(source, number)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                os.execvpe(self.command[0], self.command, {**os.environ, **self.environment})  # noqa: S606
            except OSError as error:
                os.write(2, f"supervisor: {self.command[0]}: {error}\n".encode())
            finally:
                os._exit(127)
        os.close(output)
        os.close(nothing)
        self.pid = pid

    def stop(self) -> None:
        self.wanted = False
        if self.pid is not None and self.kill_at is None:
            os.kill(self.pid, signal.SIGTERM)
            self.kill_at = time.monotonic() + STOP_GRACE_S

    def tick(self, now: float) -> None:
        if self.pid is not None:
            if self.kill_at is not None and now >= self.kill_at:
                os.kill(self.pid, signal.SIGKILL)
        elif self.wanted and now >= self.not_before and all(Path(path).exists() for path in self.needs):
            self.start()

    def ended(self, status: int) -> None:
        with Path(self.log).open("a") as log:
            log.write(f"supervisor: {self.name} ended with {os.waitstatus_to_exitcode(status)}\n")
        self.pid = None
        self.kill_at = None
        self.not_before = time.monotonic() + RESTART_DELAY_S

    def status(self) -> dict[str, Any]:
        return {"name": self.name, "pid": self.pid, "wanted": self.wanted, "starts": self.starts}


class Supervisor:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.services = [Service(item) for item in spec["services"]]
        self.by_name = {service.name: service for service in self.services}
        self.stopping = False
        # Clients that wait until their service has come to rest: connection, service, number of starts before.
        self.waiting: list[tuple[socket.socket, Service, str, int]] = []
        path = Path(spec["socket"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        path.chmod(0o600)
        self.listener.listen(8)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, self._terminate)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            while True:
                if selector.select(TICK_S):
                    self._accept()
                self._reap()
                now = time.monotonic()
                for service in self.services:
                    service.tick(now)
                self._answer()
                if self.stopping and all(service.pid is None for service in self.services):
                    return

    def _terminate(self, _number: int, _frame: object) -> None:
        self.stopping = True
        for service in self.services:
            service.stop()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services:
                if service.pid == pid:
                    service.ended(status)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(1)
        try:
            words = connection.makefile("r").readline().split()
        except OSError:
            connection.close()
            return
        service = self.by_name.get(words[1]) if len(words) == 2 else None
        if words == ["status"]:
            self._send(connection, [item.status() for item in self.services])
        elif service is None or words[0] not in ("start", "stop", "restart", "status"):
            self._send(connection, {"error": f"not understood: {' '.join(words)}; services: {', '.join(self.by_name)}"})
        else:
            before = service.starts
            if words[0] in ("stop", "restart"):
                service.stop()
            if words[0] in ("start", "restart"):
                service.wanted = True
                service.not_before = 0
            if words[0] == "start" and service.pid is not None:
                before -= 1
            self.waiting.append((connection, service, words[0], before))

    def _answer(self) -> None:
        for item in list(self.waiting):
            connection, service, operation, before = item
            started = service.pid is not None and service.starts > before
            done = {"start": started, "restart": started, "stop": service.pid is None, "status": True}[operation]
            if done:
                self.waiting.remove(item)
                self._send(connection, service.status())

    @staticmethod
    def _send(connection: socket.socket, answer: object) -> None:
        try:
            connection.sendall((json.dumps(answer) + "\n").encode())
        except OSError as error:
            print(f"supervisor: a client left before its answer: {error}", file=sys.stderr)
        finally:
            connection.close()


if __name__ == "__main__":
    Supervisor(json.loads(Path(sys.argv[1]).read_text())).run()
