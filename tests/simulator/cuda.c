/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * A libcuda that is only there: nvidia-ctk looks for the file. It can do nothing. */
enum { CUDA_ERROR_NO_DEVICE = 100 };
int cuInit(unsigned flags);
int cuInit(unsigned flags) { (void)flags; return CUDA_ERROR_NO_DEVICE; }
