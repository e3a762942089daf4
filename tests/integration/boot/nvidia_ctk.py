# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-ctk of a host without it, for tests: writes what it is asked for into the files it is given, in words."""

from __future__ import annotations

import sys
from pathlib import Path


def main(words: list[str]) -> int:
    verbs = [word for word in words if not word.startswith("--")]
    options = [word.partition("=")[::2] for word in words if word.startswith("--")]
    given = dict(options)
    if verbs[:1] == ["config"]:
        # --set KEY=VALUE are two words
        settings = [word.replace("=", " = ") for word in verbs[1:]]
        Path(given["--output"]).write_text("\n".join([*settings, ""]))
        return 0
    if verbs == ["runtime", "configure"]:
        Path(given["--config"]).write_text(f'imports = ["{Path(given["--drop-in-config"]).parent}/*.toml"]\n')
        Path(given["--drop-in-config"]).parent.mkdir(exist_ok=True)
        Path(given["--drop-in-config"]).write_text(f"[runtimes.nvidia] # {given['--runtime']}\n")
        return 0
    print(f"nvidia-ctk of the tests does not know {words}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
