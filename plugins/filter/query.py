# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the facts of a fleet, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: query
short_description: Ask the facts of GPUs or of a fleet by JMESPath
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Evaluates a JMESPath expression over whatever this collection returns, such as the GPUs of a host or a list of
    reports, one per host.
positional: expression
options:
  _input:
    description: The data to ask.
    type: raw
    required: true
  expression:
    description: The expression, see U(https://jmespath.org). Numbers stand in backticks, texts in single quotes.
    type: str
    required: true
requirements:
  - jmespath (Python package, on the controller)
seealso:
  - module: gpufleet.mig.mig_info
  - plugin: gpufleet.mig.fleet_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Indices of the GPUs where a process holds an instance
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.query('[?instances[?busy]].index') }}"

- name: Hosts that still have a GPU with MIG off
  ansible.builtin.debug:
    msg: "{{ reports | gpufleet.mig.query(expression) }}"
  vars:
    reports: "{{ ansible_play_hosts | map('extract', hostvars, 'verify_report') | list }}"
    expression: "[?gpus[?mig_mode.current == 'disabled']].host"

- name: Where every process of the fleet runs
  ansible.builtin.debug:
    msg: "{{ reports | gpufleet.mig.query(expression) }}"
  vars:
    reports: "{{ ansible_play_hosts | map('extract', hostvars, 'verify_report') | list }}"
    expression: "[].{host: host, pids: gpus[].instances[].compute_instances[].processes[].pid}"
"""

RETURN = r"""
_value:
  description: What the expression finds; V(null) where it finds nothing.
  type: raw
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

try:
    import jmespath
except ImportError:
    jmespath = None  # type: ignore[assignment]


def query(data: Any, expression: str) -> Any:
    """See DOCUMENTATION. AnsibleFilterError says what is wrong with the expression, and where."""
    if jmespath is None:
        raise AnsibleFilterError(
            "gpufleet.mig.query needs the Python package jmespath beside ansible-core on the controller: "
            "pip install jmespath."
        )
    if not isinstance(expression, str):
        raise AnsibleFilterError(f"gpufleet.mig.query wants a JMESPath expression as text, not {expression!r}.")
    try:
        return jmespath.search(str(expression), _plain(data))
    except jmespath.exceptions.JMESPathError as error:  # from None: Ansible would add the library's drawing
        raise AnsibleFilterError(f"The JMESPath expression {str(expression)!r} {_why(error)}.") from None


def _why(error: Exception) -> str:
    """One clause, with the column (from 1) where the library knows it, instead of its drawing over three lines."""
    if isinstance(error, jmespath.exceptions.IncompleteExpressionError):
        return "ends too early"
    if isinstance(error, jmespath.exceptions.LexerError):
        return f"cannot be read at column {error.lexer_position + 1}: {error.message}"
    if isinstance(error, jmespath.exceptions.ArityError):
        return f"is wrong: {str(error)[:1].lower()}{str(error)[1:]}"
    if isinstance(error, jmespath.exceptions.ParseError):
        hint = ": write numbers in backticks" if str(error.token_value).isdigit() else ""
        return f"cannot be read at column {error.lex_position + 1}, from {str(error.token_value)!r} on{hint}"
    return f"fails: {error}".rstrip(".")


def _plain(value: Any) -> Any:
    """Ansible's texts and containers as Python's own: jmespath knows types by their name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return next((kind(value) for kind in (int, float, str) if isinstance(value, kind)), value)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"query": query}
