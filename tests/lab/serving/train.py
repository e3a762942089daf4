#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Trains models/segments: gradient descent on noisy seven-segment digits. Needs numpy; same seed, same weights."""

import json
from pathlib import Path

import numpy

# Segments a to g of a display, digit by digit.
DIGITS = ["1111110", "0110000", "1101101", "1111001", "0110011", "1011011", "1011111", "1110000", "1111111", "1111011"]
TARGET = Path(__file__).parent / "models" / "segments" / "1" / "weights.json"


def main() -> None:
    rng = numpy.random.default_rng(7)
    clean = numpy.array([[int(segment) for segment in digit] for digit in DIGITS], dtype=float)
    first, shift = rng.normal(0, 0.5, (7, 16)), numpy.zeros(16)
    second, offset = rng.normal(0, 0.5, (16, 10)), numpy.zeros(10)
    for _ in range(4000):
        wanted = rng.integers(0, 10, 64)
        shown = clean[wanted] + rng.normal(0, 0.1, (64, 7))
        hidden = numpy.tanh(shown @ first + shift)
        scores = hidden @ second + offset
        likely = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        error = (likely / likely.sum(axis=1, keepdims=True) - numpy.eye(10)[wanted]) / 64
        back = (error @ second.T) * (1 - hidden**2)
        second -= 0.5 * hidden.T @ error
        offset -= 0.5 * error.sum(axis=0)
        first -= 0.5 * shown.T @ back
        shift -= 0.5 * back.sum(axis=0)
    layers = [(first, shift), (second, offset)]
    text = json.dumps([{"weight": weight.round(4).tolist(), "bias": bias.round(4).tolist()} for weight, bias in layers])
    TARGET.write_text(text + "\n")


if __name__ == "__main__":
    main()
