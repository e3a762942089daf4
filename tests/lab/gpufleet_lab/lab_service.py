#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""lab-service start|stop|restart|status [SERVICE]: speaks to a simulated host's process 1.

Stands alone; lies on the host as /usr/local/sbin/lab-service. Services: containerd, kubelet, sshd.
"""

from __future__ import annotations

import json
import socket
import sys

SOCKET = "/run/gpufleet-lab/supervisor.sock"


def ask(path: str, *words: str) -> object:
    """Send one request to a supervisor and return its decoded answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall((" ".join(words) + "\n").encode())
        answer: object = json.loads(connection.makefile("r").readline())
    return answer


if __name__ == "__main__":
    told = ask(SOCKET, *sys.argv[1:])
    print(json.dumps(told))
    sys.exit(1 if isinstance(told, dict) and "error" in told else 0)
