# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of the keys in an OpenPGP file, without gpg: a minimal host has none. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

_PUBLIC_KEY = 6


def fingerprints(data: bytes) -> list[str]:
    """Fingerprints (RFC 4880, section 12.2) of the primary keys, in capitals. MigError for anything but v4 keys."""
    found = []
    for tag, body in _packets(_binary(data)):
        if tag != _PUBLIC_KEY:
            continue
        if body[:1] != b"\x04":
            raise MigError("The file has an OpenPGP key that is not of version 4.")
        found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())  # noqa: S324
    if not found:
        raise MigError("The file has no OpenPGP key.")
    return found


def _binary(data: bytes) -> bytes:
    """The packets of a file, armoured or not."""
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" not in data:
        return data
    text = (
        data.replace(b"\r\n", b"\n").partition(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")[2].partition(b"-----END")[0]
    )
    if b"\n\n" in text:
        text = text.partition(b"\n\n")[2]  # after the headers
    lines = [line for line in text.split() if not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        raise MigError(f"The file's armour is broken: {error}.") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet (RFC 4880, section 4.2); partial lengths do not occur in keys."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise MigError("The file is no OpenPGP key.")
        if head & 0x40:
            tag, first = head & 0x3F, data[at + 1]
            if first < 192:
                length, start = first, at + 2
            elif first < 224:
                length, start = ((first - 192) << 8) + data[at + 2] + 192, at + 3
            else:
                length, start = int.from_bytes(data[at + 2 : at + 6], "big"), at + 6
        else:
            tag, size = head >> 2 & 0x0F, 1 << (head & 0x03)
            length, start = int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size
        yield tag, data[start : start + length]
        at = start + length
