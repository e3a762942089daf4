/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * NVML calls about compute instances. */
#include "handles.h"
#include <stdio.h>

#define NEED_OK(expression) do { nvmlReturn_t is = (expression); if (is != NVML_SUCCESS) LEAVE(is); } while (0)
#define NEED_INSTANCE \
    struct sim_instance *one = kind_of(instance) == KIND_INSTANCE ? instance_of(instance) : NULL; \
    NEED(one, NVML_ERROR_INVALID_ARGUMENT); \
    const struct sim_profile *profile = sim_profile_by_id(handle_gpu(instance), one->profile_id)

/* By NVML's index. The 1g instance of double memory answers to index 0 as well as to 7 (1_SLICE_REV1). */
static const struct sim_compute_profile *by_index(const struct sim_profile *profile, unsigned index)
{
    for (unsigned n = 0; n < profile->computes; n++) {
        const struct sim_compute_profile *kind = &profile->compute[n];
        if (kind->id == 7 ? index == 7 || index == 0 : kind->index == index) return kind;
    }
    return NULL;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned index, unsigned engine,
                                                          nvmlComputeInstanceProfileInfo_t *info)
{
    ENTER(gpu_of(instance), 0);
    NEED_INSTANCE;
    NEED(info && index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT && engine < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT,
         NVML_ERROR_INVALID_ARGUMENT);
    const struct sim_compute_profile *kind = by_index(profile, index);
    NEED(kind, NVML_ERROR_NOT_SUPPORTED);
    *info = (nvmlComputeInstanceProfileInfo_t){
        .id = kind->id, .sliceCount = kind->slices, .instanceCount = kind->count, .multiprocessorCount = kind->multiprocessors,
        .sharedCopyEngineCount = profile->copy, .sharedDecoderCount = profile->decoders,
        .sharedEncoderCount = profile->encoders, .sharedJpegCount = profile->jpeg, .sharedOfaCount = profile->ofa};
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned index, unsigned engine,
                                                           nvmlComputeInstanceProfileInfo_v2_t *info)
{
    ENTER(gpu_of(instance), 0);
    NEED_INSTANCE;
    NEED(info && index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT && engine < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT,
         NVML_ERROR_INVALID_ARGUMENT);
    NEED(info->version == nvmlComputeInstanceProfileInfo_v2 || info->version == nvmlComputeInstanceProfileInfo_v3,
         NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    const struct sim_compute_profile *kind = by_index(profile, index);
    NEED(kind, NVML_ERROR_NOT_SUPPORTED);
    bool wide = info->version == nvmlComputeInstanceProfileInfo_v3;
    nvmlComputeInstanceProfileInfo_v2_t filled = {
        .version = info->version, .id = kind->id, .sliceCount = kind->slices, .instanceCount = kind->count,
        .multiprocessorCount = kind->multiprocessors, .sharedCopyEngineCount = profile->copy,
        .sharedDecoderCount = profile->decoders, .sharedEncoderCount = profile->encoders,
        .sharedJpegCount = profile->jpeg, .sharedOfaCount = profile->ofa};
    if (kind->slices == profile->slices) snprintf(filled.name, sizeof filled.name, "MIG %s", profile->name);
    else snprintf(filled.name, sizeof filled.name, "MIG %uc.%s", kind->slices, profile->name);
    *info = filled;
    if (wide) ((nvmlComputeInstanceProfileInfo_v3_t *)(void *)info)->capabilities = 0;
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, unsigned id, unsigned *count)
{
    ENTER(gpu_of(instance), SIM_PRIVILEGED);
    NEED_INSTANCE;
    const struct sim_compute_profile *kind = sim_compute_profile(profile, id);
    NEED(kind && count, NVML_ERROR_INVALID_ARGUMENT);
    *count = sim_compute_room(profile, one, kind);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, unsigned id,
                                                                 nvmlComputeInstancePlacement_t *places, unsigned *count)
{
    unsigned starts[8];
    ENTER(gpu_of(instance), SIM_PRIVILEGED);
    NEED_INSTANCE;
    const struct sim_compute_profile *kind = sim_compute_profile(profile, id);
    NEED(kind && count, NVML_ERROR_INVALID_ARGUMENT);
    *count = sim_compute_places(profile, kind->slices, starts);
    for (unsigned n = 0; places && n < *count; n++)
        places[n] = (nvmlComputeInstancePlacement_t){.start = starts[n], .size = sim_compute_size(handle_gpu(instance), profile, kind)};
    LEAVE(NVML_SUCCESS);
}

static nvmlComputeInstance_t handle_for(const void *instance, const struct sim_instance *one, const struct sim_compute *made)
{
    return make_handle(KIND_COMPUTE, handle_gpu(instance), one->id, made->id, one->serial);
}
nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute)
{
    struct sim_compute *made;
    unsigned starts[8];
    ENTER(gpu_of(instance), SIM_PRIVILEGED | SIM_WRITES);
    DETAIL("compute_profile=%u ", id);
    NEED_INSTANCE;
    const struct sim_compute_profile *kind = sim_compute_profile(profile, id);
    NEED(kind && compute, NVML_ERROR_INVALID_ARGUMENT);
    unsigned places = sim_compute_places(profile, kind->slices, starts);
    for (unsigned n = 0; n < places; n++)
        if (sim_compute_free(one, starts[n], kind->slices)) {
            NEED_OK(sim_compute_create(handle_gpu(instance), one, kind, starts[n], &made));
            *compute = handle_for(instance, one, made);
            LEAVE(NVML_SUCCESS);
        }
    LEAVE(NVML_ERROR_INSUFFICIENT_RESOURCES);
}
nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t instance, unsigned id,
                                                               const nvmlComputeInstancePlacement_t *place,
                                                               nvmlComputeInstance_t *compute)
{
    struct sim_compute *made;
    ENTER(gpu_of(instance), SIM_PRIVILEGED | SIM_WRITES);
    NEED_INSTANCE;
    DETAIL("instance=%s@%u compute_profile=%u start=%u ", profile->name, one->start, id, place ? place->start : 0);
    const struct sim_compute_profile *kind = sim_compute_profile(profile, id);
    NEED(kind && compute && place && place->size == sim_compute_size(handle_gpu(instance), profile, kind), NVML_ERROR_INVALID_ARGUMENT);
    NEED_OK(sim_compute_create(handle_gpu(instance), one, kind, place->start, &made));
    *compute = handle_for(instance, one, made);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute)
{
    ENTER(gpu_of(compute), SIM_PRIVILEGED | SIM_WRITES);
    struct sim_compute *there = kind_of(compute) == KIND_COMPUTE ? compute_of(compute) : NULL;
    NEED(there, NVML_ERROR_INVALID_ARGUMENT);
    struct sim_instance *one = instance_of(compute);
    DETAIL("profile=%u start=%u compute_start=%u ", one->profile_id, one->start, there->start);
    NEED(!sim_busy(handle_gpu(compute), one->id, there->id), NVML_ERROR_IN_USE);
    sim_compute_remove(handle_gpu(compute), one, there);
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *found, unsigned *count)
{
    ENTER(gpu_of(instance), SIM_PRIVILEGED);
    NEED_INSTANCE;
    const struct sim_compute_profile *kind = sim_compute_profile(profile, id);
    NEED(kind && found && count, NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    for (unsigned n = 0; n < SIM_COMPUTE; n++)
        if (one->compute[n].used && one->compute[n].profile_id == kind->id)
            found[(*count)++] = handle_for(instance, one, &one->compute[n]);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *found)
{
    ENTER(gpu_of(instance), SIM_PRIVILEGED);
    NEED_INSTANCE;
    (void)profile;
    NEED(id < SIM_COMPUTE && one->compute[id].used, NVML_ERROR_NOT_FOUND);
    *found = handle_for(instance, one, &one->compute[id]);
    LEAVE(NVML_SUCCESS);
}
/* `device` is the MIG device of the compute instance, as NVIDIA's DRA driver uses it. */
nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
    ENTER(gpu_of(compute), 0);
    struct sim_compute *there = kind_of(compute) == KIND_COMPUTE ? compute_of(compute) : NULL;
    NEED(there && info, NVML_ERROR_INVALID_ARGUMENT);
    struct sim_instance *one = instance_of(compute);
    *info = (nvmlComputeInstanceInfo_t){
        .device = make_handle(KIND_MIG, handle_gpu(compute), one->id, there->id, one->serial),
        .gpuInstance = make_handle(KIND_INSTANCE, handle_gpu(compute), one->id, 0, one->serial),
        .id = there->id, .profileId = there->profile_id, .placement = {.start = there->start, .size = there->size}};
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
    return nvmlComputeInstanceGetInfo_v2(compute, info);
}
