# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of a host in the YAML text of an inventory's host_vars, changed so that all else stays to the letter. Pure.

Texts are edited as text, because loading and dumping would lose comments and encrypted values; that nothing else
changed is then proved on the parsed nodes. Ansible loads the folder host_vars/HOST or the first of HOST, HOST.yml,
HOST.yaml, HOST.json, and never a second one (DataLoader.find_vars_files): a new file beside an old one would hide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

VAULT = "$ANSIBLE_VAULT"
LEADING = "mig_layout"
"""The variable that decides about a host: where it stands already with another value, the host is left alone."""


@dataclass(frozen=True)
class Edit:
    """What becomes of one host: its texts by file name as they will be, and `action` written, same or kept."""

    action: str
    texts: dict[str, str]


def edit(host: str, texts: Mapping[str, str], target: str, variables: Mapping[str, Any], *, overwrite: bool) -> Edit:
    """Put variables into the texts of one host, which are given by file name in the order in which Ansible loads them.

    A variable goes where it stands already, else into `target`. One that has another value stays unless `overwrite`.
    MigError, before anything is written, where a text cannot be changed safely.
    """
    nodes = {name: _top(host, name, text) for name, text in texts.items()}
    changed = dict(texts)
    for name, value in variables.items():
        homes = [each for each, keys in nodes.items() if name in keys]
        if homes and _value(nodes[homes[-1]][name][1]) == value:
            continue
        if homes and not overwrite:
            if name == LEADING:
                return Edit("kept", {})
            continue
        file = homes[-1] if homes else target
        changed[file] = _put(host, file, changed.get(file, ""), name, value)
    result = {name: text for name, text in changed.items() if text != texts.get(name)}
    return Edit("written" if result else "same", result)


def render(name: str, value: Any) -> str:
    """One variable as YAML: a layout with a line per instance, anything else as PyYAML writes it."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return _dump({name: value})
    lines = [f"{name}:"]
    for entry in value:
        lead = "  - "
        for key, item in entry.items():
            if isinstance(item, list) and item and isinstance(item[0], dict):
                lines.append(f"{lead}{key}:")
                lines += [f"      - {_flow(one)}" for one in item]
            else:
                lines.append(f"{lead}{key}: {_flow(item)}")
            lead = "    "
    return "\n".join(lines) + "\n"


def _dump(value: Any) -> str:
    import yaml  # a dependency of ansible-core; ansible-test imports module code without it

    return str(yaml.safe_dump(value, sort_keys=False, width=1000))


def _flow(value: Any) -> str:
    import yaml

    text = str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100000))
    return text.replace("\n...", "").strip()


def _root(host: str, file: str, text: str) -> Any:
    """The mapping node of a file; None of one without variables, and of one that is encrypted as a whole: such a file
    is taken to hold secrets only."""
    import yaml

    if text.startswith(VAULT):
        return None
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise _refusal(host, file, f"it is no YAML ({' '.join(str(error).split())})") from error
    if not documents or (len(documents) == 1 and documents[0].tag == "tag:yaml.org,2002:null"):
        return None
    if len(documents) > 1 or not isinstance(documents[0], yaml.MappingNode):
        raise _refusal(host, file, "it is not one YAML mapping")
    return documents[0]


def _top(host: str, file: str, text: str) -> dict[str, tuple[Any, Any]]:
    """{variable: (key node, value node)} of a file."""
    root = _root(host, file, text)
    return {str(key.value): (key, value) for key, value in root.value} if root else {}


def _value(node: Any) -> Any:
    """The data of a node; something that equals no variable where it has tags of Ansible's (!vault, !unsafe)."""
    import yaml

    try:
        return yaml.safe_load(yaml.serialize(node))
    except yaml.YAMLError:
        return object()


def _put(host: str, file: str, text: str, name: str, value: Any) -> str:
    """The text with the variable in it, proved to be the same otherwise."""
    if text.startswith(VAULT):
        raise _refusal(host, file, "it is encrypted as a whole")
    root = _root(host, file, text)
    if root and root.flow_style:
        raise _refusal(host, file, "it is JSON, or YAML in flow style")
    before = _top(host, file, text)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    new = render(name, value).splitlines(keepends=True)
    if name in before:
        key, old = before[name]
        end = old.end_mark.line + (old.end_mark.column > 0)
        while end > key.start_mark.line + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1  # what stands before the next variable belongs to that one
        lines[key.start_mark.line : end] = new
    else:
        lines = [*lines, *new] if lines else ["---\n", *new]
    result = "".join(lines)
    after = _top(host, file, result)
    if list(after) != list(dict.fromkeys([*before, name])) or _value(after[name][1]) != value:
        raise _refusal(host, file, f"{name} cannot be put into it safely")
    if any(_shown(before[each][1]) != _shown(after[each][1]) for each in before if each != name):
        raise _refusal(host, file, f"putting {name} into it would change another variable")
    return result


def _shown(node: Any) -> str:
    import yaml

    return str(yaml.serialize(node))


def _refusal(host: str, file: str, why: str) -> MigError:
    return MigError(
        f"The variables of host {host} cannot be written into {file}: {why}. Nothing was written for any host. "
        f"Write mig_layout into that file yourself, or make it a folder {host}/ with the file as one of its files, "
        "and run again.",
        host=host,
        file=file,
    )
