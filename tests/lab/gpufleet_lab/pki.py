# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The cluster's own certificate authority (openssl command), certificates and kubeconfig files."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from .settings import API_ADDRESS, API_PORT, RUN_DIR
from .shell import run, write

PKI = RUN_DIR / "pki"
DAYS = "365"


def ensure_authority() -> None:
    """CA and the key that signs service-account tokens."""
    PKI.mkdir(parents=True, exist_ok=True)
    PKI.chmod(0o700)
    if not (PKI / "ca.crt").exists():
        scratch = PKI / "ca.crt.new"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", DAYS, "-subj", "/CN=gpufleet-lab", "-keyout", PKI / "ca.key", "-out", scratch,
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        scratch.rename(PKI / "ca.crt")
    if not (PKI / "service-accounts.key").exists():
        scratch = PKI / "service-accounts.key.new"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", scratch)
        scratch.chmod(0o600)
        scratch.rename(PKI / "service-accounts.key")


def ensure_certificate(name: str, subject: str, alternatives: str = "") -> tuple[Path, Path]:
    """Certificate and key `name` for `subject` (/O=../CN=..), usable as client and as server; made once."""
    certificate, key = PKI / f"{name}.crt", PKI / f"{name}.key"
    if certificate.exists():
        return certificate, key
    request, extensions, scratch = PKI / f"{name}.csr", PKI / f"{name}.ext", PKI / f"{name}.crt.new"
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", subject, "-keyout", key, "-out", request)  # fmt: skip
    lines = ["extendedKeyUsage=clientAuth,serverAuth", "keyUsage=critical,digitalSignature"]
    if alternatives:
        lines.append(f"subjectAltName={alternatives}")
    write(extensions, "\n".join(lines) + "\n")
    run("openssl", "x509", "-req", "-in", request, "-CA", PKI / "ca.crt", "-CAkey", PKI / "ca.key",
        "-days", DAYS, "-out", scratch, "-extfile", extensions)  # fmt: skip
    request.unlink()
    extensions.unlink()
    scratch.rename(certificate)
    return certificate, key


def kubeconfig(name: str, subject: str) -> str:
    """A self-contained kubeconfig (JSON is YAML) for the identity in `subject`."""
    certificate, key = ensure_certificate(name, subject)

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gpufleet-lab",
        "clusters": [
            {
                "name": "gpufleet-lab",
                "cluster": {
                    "server": f"https://{API_ADDRESS}:{API_PORT}",
                    "certificate-authority-data": inline(PKI / "ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": inline(certificate), "client-key-data": inline(key)},
            }
        ],
        "contexts": [{"name": "gpufleet-lab", "context": {"cluster": "gpufleet-lab", "user": name}}],
    }
    return json.dumps(document, indent=2) + "\n"
