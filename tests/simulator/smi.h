/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers */
#ifndef GPUFLEET_SMI_H
#define GPUFLEET_SMI_H
#include <nvml.h>
#include <stdbool.h>

enum { SMI_ROOM = 16 };
struct smi_gpu { unsigned index; nvmlDevice_t device; };
typedef nvmlGpuInstanceProfileInfo_v2_t smi_profile_info;
typedef nvmlComputeInstanceProfileInfo_v2_t smi_compute_info;

_Noreturn void smi_fail(nvmlReturn_t result, const char *what);
_Noreturn void smi_misused(const char *word); /* exit code 2 */
unsigned smi_chosen(const char *list, struct smi_gpu *gpus, unsigned room); /* NULL: all */

int smi_mig(int count, char **words);

/* smi_tables.c: one row, under the table's head when it is the first */
void smi_profile_row(bool first, unsigned gpu, const smi_profile_info *info, unsigned room);
void smi_instance_row(bool first, unsigned gpu, const char *name, const nvmlGpuInstanceInfo_t *info);
void smi_compute_row(bool first, unsigned gpu, unsigned instance, const char *name, const nvmlComputeInstanceInfo_t *info);
void smi_compute_profile_row(bool first, unsigned gpu, unsigned instance, const smi_compute_info *kind, unsigned room, bool whole);
#endif
