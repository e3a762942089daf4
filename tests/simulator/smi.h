/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers */
#ifndef GPUFLEET_SMI_H
#define GPUFLEET_SMI_H
#include <nvml.h>
#include <stdbool.h>

struct smi_gpu { unsigned index; nvmlDevice_t device; };
_Noreturn void smi_fail(nvmlReturn_t result, const char *what);
unsigned smi_chosen(const char *list, struct smi_gpu *gpus, unsigned room); /* NULL: all */
int smi_mig(int count, char **words);
#endif
