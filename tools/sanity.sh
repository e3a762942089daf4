#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs ansible-test sanity on a copy of the tracked files that the collection's artifact holds; ruff and mypy see the rest.
#
# ansible-test wants a real folder .../ansible_collections/NAMESPACE/NAME: with a symlinked root it fails, with symlinked
# entries it passes while it checks nothing. Its home lies in the cache, so that the user's own ~/.ansible stays as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${GPUFLEET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpufleet-mig}
export HOME="$cache/ansible-test-home"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# ansible-test downloads a get-pip script at first use. The same pip is in the interpreter's own ensurepip.
mkdir -p "$HOME/.ansible/test/cache"
cat > "$HOME/.ansible/test/cache/get_pip_24_2.py" <<'PIP'
import subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
wanted = [a for a in sys.argv[1:] if "==" in a]  # pip==VERSION; the options of get-pip are its own
subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)
PIP

target="$work/ansible_collections/gpufleet/mig"
mkdir -p "$target"
cd "$root"
# A tracked file that is deleted in the work tree is simply not copied.
git ls-files -z --cached --others --exclude-standard -- ':!.tree' ':!facts' ':!tests' ':!tools' ':!extensions' | tar --null -T - --ignore-failed-read --warning=no-failed-read -cf - | tar -xf - -C "$target"
cd "$target"
git init -q . && git add -A
"$root/.venv/bin/ansible-test" sanity --python 3.11 --requirements "$@"
