/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * Handles are numbers that look like pointers: kind, GPU, instance id, compute id, and the instance's serial. */
#ifndef GPUFLEET_HANDLES_H
#define GPUFLEET_HANDLES_H
#include "sim.h"
#include <string.h>

enum { KIND_GPU = 1, KIND_MIG, KIND_INSTANCE, KIND_COMPUTE, KIND_EVENTS };

static inline void *make_handle(unsigned kind, unsigned gpu, unsigned instance, unsigned compute, uint32_t serial)
{
    return (void *)((uintptr_t)serial << 32 | kind << 24 | gpu << 16 | instance << 8 | compute);
}
static inline unsigned kind_of(const void *handle) { return (uintptr_t)handle >> 24 & 0xff; }
static inline unsigned handle_gpu(const void *handle) { return (uintptr_t)handle >> 16 & 0xff; }
static inline unsigned handle_instance(const void *handle) { return (uintptr_t)handle >> 8 & 0xff; }
static inline unsigned handle_compute(const void *handle) { return (uintptr_t)handle & 0xff; }

/* The GPU of any handle for the frame of a call: -1 for what is none. */
static inline int gpu_of(const void *handle)
{
    unsigned kind = kind_of(handle), gpu = handle_gpu(handle);
    return kind >= KIND_GPU && kind <= KIND_COMPUTE && gpu < SIM_GPUS ? (int)gpu : -1;
}
static inline bool is_gpu(const void *handle) { return kind_of(handle) == KIND_GPU && handle_gpu(handle) < sim->gpus; }

/* The instance that a handle means, NULL when it is gone, also when another stands in its place. */
static inline struct sim_instance *instance_of(const void *handle)
{
    unsigned kind = kind_of(handle);
    if (kind < KIND_MIG || kind > KIND_COMPUTE || handle_gpu(handle) >= sim->gpus) return NULL;
    struct sim_instance *one = sim_instance_by_id(handle_gpu(handle), handle_instance(handle));
    return one && one->serial == (uint32_t)((uintptr_t)handle >> 32) ? one : NULL;
}
static inline struct sim_compute *compute_of(const void *handle)
{
    struct sim_instance *one = instance_of(handle);
    unsigned id = handle_compute(handle);
    return one && kind_of(handle) != KIND_INSTANCE && id < SIM_COMPUTE && one->compute[id].used ? &one->compute[id] : NULL;
}
static inline bool is_mig(const void *handle) { return kind_of(handle) == KIND_MIG && compute_of(handle); }

static inline nvmlReturn_t copy_text(const char *text, char *to, unsigned length)
{
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}
#endif
