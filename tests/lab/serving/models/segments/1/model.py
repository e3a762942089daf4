# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A small network in numpy; train.py made its weights."""

import json
from pathlib import Path

import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args):
        weights = json.loads((Path(__file__).parent / "weights.json").read_text())
        self.layers = [(numpy.float32(layer["weight"]), numpy.float32(layer["bias"])) for layer in weights]

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "SEGMENTS").as_numpy()) for each in requests]

    def answer(self, segments):
        (first, shift), (second, offset) = self.layers
        scores = numpy.tanh(segments @ first + shift) @ second + offset
        digits = scores.argmax(axis=1, keepdims=True).astype(numpy.int32)
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor("DIGIT", digits), pb_utils.Tensor("SCORES", scores)]
        )
