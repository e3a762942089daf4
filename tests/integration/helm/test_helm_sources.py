# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Where a chart may come from: directory (all other tests), archive, repository, OCI registry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from integration.helm.conftest import Release

pytestmark = pytest.mark.slow

CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
CHART_TYPE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def archive(release: Release, tmp_path: Path) -> Path:
    target = tmp_path / "charts"
    subprocess.run([release.cluster.helm, "package", str(release.chart), "-d", str(target)], check=True)
    return target / "sample-1.0.0.tgz"


def serve(handler: Any) -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"127.0.0.1:{server.server_address[1]}"


class Quiet(SimpleHTTPRequestHandler):
    """Files without a log."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def repository(release: Release, archive: Path) -> Iterator[str]:
    subprocess.run([release.cluster.helm, "repo", "index", str(archive.parent)], check=True)
    server, address = serve(partial(Quiet, directory=str(archive.parent)))
    yield f"http://{address}"
    server.shutdown()


@pytest.fixture
def registry(archive: Path) -> Iterator[str]:
    """The reading half of the OCI distribution protocol, with one chart in it."""
    layer = archive.read_bytes()
    config = json.dumps({"apiVersion": "v2", "name": "sample", "version": "1.0.0"}).encode()

    def digest(data: bytes) -> str:
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def entry(kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": entry(CONFIG_TYPE, config),
            "layers": [entry(CHART_TYPE, layer)],
        }
    ).encode()
    content = {
        "/v2/charts/sample/manifests/1.0.0": (MANIFEST_TYPE, manifest),
        f"/v2/charts/sample/manifests/{digest(manifest)}": (MANIFEST_TYPE, manifest),
        f"/v2/charts/sample/blobs/{digest(config)}": ("application/octet-stream", config),
        f"/v2/charts/sample/blobs/{digest(layer)}": ("application/octet-stream", layer),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            kind, data = content.get(self.path, ("text/plain", b"not found"))
            self.send_response(200 if self.path in content else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", digest(data))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server, address = serve(Handler)
    yield f"oci://{address}/charts/sample"
    server.shutdown()


def four_steps(release: Release, **params: Any) -> None:
    predicted = release(check=True, **params)
    done = release(**params)
    assert done.get("actions") == predicted.get("actions"), (done, predicted)
    assert done["changed"]
    assert done["release"]["chart"] == "sample-1.0.0"
    assert release(**params)["changed"] is False
    # the same chart from a directory is no difference
    assert release()["changed"] is False


def test_archive(release: Release, archive: Path) -> None:
    four_steps(release, chart=str(archive))


def test_repository(release: Release, repository: str) -> None:
    four_steps(release, chart="sample", repo=repository, version="1.0.0")
    answer = release(chart="other", repo=repository, version="1.0.0")
    assert f"Chart other 1.0.0 of {repository} cannot be fetched" in answer["msg"]
    answer = release(chart="sample", repo=repository, version="2.0.0")
    assert f"Chart sample 2.0.0 of {repository} cannot be fetched" in answer["msg"]


def test_a_chart_with_another_checksum_is_refused_wherever_it_came_from(
    release: Release, repository: str, archive: Path
) -> None:
    right = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    wrong = f"sha256:{'0' * 64}"
    fetched: dict[str, Any] = {"chart": "sample", "repo": repository, "version": "1.0.0"}
    sources: list[dict[str, Any]] = [fetched, {"chart": str(archive)}, {"chart": f"{repository}/sample-1.0.0.tgz"}]
    for source in sources:
        answer = release(**source, checksum=wrong)
        assert f"has {right}, wanted is {wrong}. Nothing was changed." in answer["msg"]
    assert release.cluster.find(f"/api/v1/namespaces/{release.namespace}") is None
    assert "which has no checksum" in release(checksum=right)["msg"]
    assert "64 hexadecimal digits" in release(**fetched, checksum=right[7:])["msg"]
    four_steps(release, **fetched, checksum=right)


def test_url_of_an_archive(release: Release, repository: str) -> None:
    four_steps(release, chart=f"{repository}/sample-1.0.0.tgz")


def test_registry(release: Release, registry: str) -> None:
    four_steps(release, chart=registry, version="1.0.0", plain_http=True)
    four_steps_again = release(chart=f"{registry}:1.0.0", plain_http=True)
    assert four_steps_again["changed"] is False
    answer = release(chart=registry, version="2.0.0", plain_http=True)
    assert "cannot be fetched" in answer["msg"]


def test_an_archive_that_is_none(release: Release, tmp_path: Path) -> None:
    (tmp_path / "broken.tgz").write_text("no archive")
    answer = release(chart=str(tmp_path / "broken.tgz"))
    assert "is not a usable chart" in answer["msg"]
