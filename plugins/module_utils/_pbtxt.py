# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Protobuf's text format, as far as Triton's config.pbtxt uses it. Pure.

The language is described at https://protobuf.dev/reference/protobuf/textformat-spec/. Without the schema a reader
cannot know which fields repeat, so every field is a list here, in the order of the file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, Union

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Value = Union[str, int, float, "Message"]
Message = dict[str, list[Any]]

_TOKEN = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?))(?![\w.])
      | (?P<name>-?[A-Za-z_][\w.]*|\[[\w./-]+\](?=\s*[:{<]))
      | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)


class PbtxtError(MigError):
    """Not the text format; the sentence names the line."""


class _Tokens:
    """Kind and text of each token, with its line; the end is kind ``end``."""

    def __init__(self, text: str) -> None:
        self._all = list(self._split(text))
        self._at = 0

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str, int]]:
        at, line = 0, 1
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise PbtxtError(f"line {line}: {text[at : at + 20].splitlines()[0]!r} is not understood")
            if found.lastgroup != "blank":
                yield str(found.lastgroup), found[0], line
            line += found[0].count("\n")
            at = found.end()
        yield "end", "", line

    @property
    def kind(self) -> str:
        return self._all[self._at][0]

    @property
    def text(self) -> str:
        return self._all[self._at][1]

    def take(self) -> str:
        text = self.text
        self._at += 1
        return text

    def skip(self, *marks: str) -> bool:
        """Take the next token where it is one of these marks."""
        here = self.kind == "mark" and self.text in marks
        self._at += here
        return here

    def refuse(self, wanted: str) -> PbtxtError:
        shown = repr(self.text) if self.text else "the end of the file"
        return PbtxtError(f"line {self._all[self._at][2]}: {shown} stands where {wanted} should be")


def parse(text: str) -> Message:
    """Fields of the message by name; each is the list of its values. PbtxtError names the line that is wrong."""
    tokens = _Tokens(text)
    return _message(tokens, "")


def _message(tokens: _Tokens, closing: str) -> Message:
    found: Message = {}
    while not (tokens.kind == "end" if not closing else tokens.skip(closing)):
        if tokens.kind != "name":
            raise tokens.refuse(f"a field's name or {closing!r}" if closing else "a field's name")
        values = found.setdefault(tokens.take(), [])
        colon = tokens.skip(":")
        if tokens.skip("["):
            while not tokens.skip("]"):
                values.append(_value(tokens))
                if not tokens.skip(",") and tokens.text != "]":
                    raise tokens.refuse("',' or ']'")
        elif colon or tokens.text in ("{", "<"):
            values.append(_value(tokens))
        else:
            raise tokens.refuse("':'")
        tokens.skip(",", ";")
    return found


def _value(tokens: _Tokens) -> Value:
    if tokens.skip("{"):
        return _message(tokens, "}")
    if tokens.skip("<"):
        return _message(tokens, ">")
    if tokens.kind == "string":
        text = ""
        while tokens.kind == "string":  # neighbours are one string
            try:
                text += str(ast.literal_eval(tokens.text))
            except (SyntaxError, ValueError) as error:
                raise tokens.refuse("a string with escapes of C") from error
            tokens.take()
        return text
    if tokens.kind == "number":
        number = tokens.take().replace(" ", "")
        if re.fullmatch(r"-?0[0-7]+", number):
            return int(number, 8)
        return int(number, 0) if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", number) else float(number.rstrip("fF"))
    if tokens.kind == "name":
        return tokens.take()
    raise tokens.refuse("a value")
