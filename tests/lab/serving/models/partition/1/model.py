# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Tells what nvidia-smi shows in this container: the devices that the kubelet gave to the replica."""

import re
import socket
import subprocess

import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
        self.uuids = re.findall(r"UUID: (MIG-[^)]+)", listed) or re.findall(r"UUID: (GPU-[^)]+)", listed)

    def execute(self, requests):
        answer = [
            pb_utils.Tensor("UUID", numpy.array(self.uuids, dtype=object)),
            pb_utils.Tensor("REPLICA", numpy.array([socket.gethostname()], dtype=object)),
        ]
        return [pb_utils.InferenceResponse(output_tensors=answer) for _ in requests]
