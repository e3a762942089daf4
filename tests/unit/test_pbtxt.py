# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files as people write them for Triton."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils import _pbtxt

# Each with its fields, worked out by hand from the text format's specification.
TEXTS: list[tuple[str, dict[str, list[Any]]]] = [
    ('name: "a" max_batch_size: 8', {"name": ["a"], "max_batch_size": [8]}),
    ("# only a comment\n", {}),
    ("dims: [ -1, 4 ]\ndims: 3", {"dims": [-1, 4, 3]}),
    ("dims: []", {"dims": []}),
    ("input [ { name: 'x' }, { name: 'y' } ]", {"input": [{"name": ["x"]}, {"name": ["y"]}]}),
    ("group { kind: KIND_GPU, gpus: 0; gpus: 1 }", {"group": [{"kind": ["KIND_GPU"], "gpus": [0, 1]}]}),
    ("group < kind: KIND_CPU >", {"group": [{"kind": ["KIND_CPU"]}]}),
    ('text: "a\\tb" "c" # joined', {"text": ["a\tbc"]}),
    ("hex: 0x1F octal: 017 real: 1.5e3 single: 2.5f", {"hex": [31], "octal": [15], "real": [1500.0], "single": [2.5]}),
    ("on: true off: false", {"on": ["true"], "off": ["false"]}),
    (
        'parameters: { key: "v" value: { string_value: "#no comment" } }',
        {"parameters": [{"key": ["v"], "value": [{"string_value": ["#no comment"]}]}]},
    ),
]


@pytest.mark.parametrize(("text", "fields"), TEXTS)
def test_text_is_read_as_its_specification_says(text: str, fields: dict[str, list[Any]]) -> None:
    assert _pbtxt.parse(text) == fields


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name", "line 1: the end of the file stands where ':' should be"),
        ("a: 1\nb: }", "line 2: '}' stands where a value should be"),
        ("a {\n b: 1\n", "line 3: the end of the file stands where a field's name or '}' should be"),
        ("a: [1 2]", "line 1: '2' stands where ',' or ']' should be"),
        ("a: 'open\nb: 1", 'line 1: "\'open" is not understood'),
        ("a: 1 }", "line 1: '}' stands where a field's name should be"),
        ("a: '\\x'", "a string with escapes of C"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(_pbtxt.PbtxtError) as error:
        _pbtxt.parse(text)
    assert said in str(error.value)
