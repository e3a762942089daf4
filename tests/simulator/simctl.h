/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers */
#ifndef GPUFLEET_SIMCTL_H
#define GPUFLEET_SIMCTL_H
#include "sim.h"

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void init_state(const char *state, const char *specification);
void write_files(const char *root);
#endif
