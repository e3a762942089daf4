# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Whether the container toolkit gives unprivileged pods what their NVIDIA_VISIBLE_DEVICES names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils import _toolkit
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

KEY = "accept-nvidia-visible-devices-envvar-when-unprivileged"


@pytest.mark.parametrize(
    ("text", "program", "is_open"),
    [
        (f"#{KEY} = true\ndisable-require = false\n", True, True),  # as nvidia-ctk writes its default
        (f"{KEY} = true\n", True, True),
        (f"{KEY} = false\n", True, False),
        (f"  {KEY}=false # closed\n", True, False),
        (f"#{KEY} = false\n", True, True),
        (None, True, True),
        (None, False, None),
    ],
)
def test_the_toolkit_is_open_unless_its_file_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, program: bool, is_open: bool | None
) -> None:
    file = tmp_path / "config.toml"
    if text is not None:
        file.write_text(text)
    if program:
        (tmp_path / "nvidia-ctk").write_text("#!/bin/sh\n")
        (tmp_path / "nvidia-ctk").chmod(0o755)
    monkeypatch.setattr(_toolkit, "TOOLKIT_CONFIG", str(file))
    monkeypatch.setitem(_toolkit._ENVIRONMENT, "PATH", str(tmp_path))
    assert _toolkit.is_open() is is_open


def test_containerd_without_a_file_of_its_own_is_refused() -> None:
    """Its configuration would include a folder that is gone when the module ends."""
    with pytest.raises(MigError, match="name one in drop_in"):
        _toolkit.configured("containerd", "/etc/containerd/config.toml", "", {}, False, True)
