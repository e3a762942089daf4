/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * NVML calls about GPU instances and MIG device handles. */
#include "handles.h"
#include <stdio.h>

static bool mig_on(const void *device) { return sim->gpu[handle_gpu(device)].mig_current; }

/* Ampere hides its profiles while MIG is off; newer boards always show them. */
static nvmlReturn_t may_ask(const void *device)
{
    if (!is_gpu(device)) return NVML_ERROR_INVALID_ARGUMENT;
    if (!sim_mig_capable(handle_gpu(device))) return NVML_ERROR_NOT_SUPPORTED;
    return sim_product(handle_gpu(device))->needs_reset && !mig_on(device) ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}
static nvmlReturn_t may_change(const void *device)
{
    if (!is_gpu(device)) return NVML_ERROR_INVALID_ARGUMENT;
    return sim_mig_capable(handle_gpu(device)) && mig_on(device) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}
#define NEED_OK(expression) do { nvmlReturn_t is = (expression); if (is != NVML_SUCCESS) LEAVE(is); } while (0)

static void fill_plain(const struct sim_profile *profile, nvmlGpuInstanceProfileInfo_t *info)
{
    *info = (nvmlGpuInstanceProfileInfo_t){
        .id = profile->id, .isP2pSupported = 0, .sliceCount = profile->slices, .instanceCount = profile->count,
        .multiprocessorCount = profile->multiprocessors, .copyEngineCount = profile->copy, .decoderCount = profile->decoders,
        .encoderCount = profile->encoders, .jpegCount = profile->jpeg, .ofaCount = profile->ofa,
        .memorySizeMB = profile->memory_mib};
}
static nvmlReturn_t fill_versioned(const struct sim_profile *profile, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    nvmlGpuInstanceProfileInfo_t plain;
    unsigned version = info->version;
    fill_plain(profile, &plain);
    if (version == nvmlGpuInstanceProfileInfo_v3) {
        nvmlGpuInstanceProfileInfo_v3_t *wide = (nvmlGpuInstanceProfileInfo_v3_t *)(void *)info;
        *wide = (nvmlGpuInstanceProfileInfo_v3_t){
            .version = version, .id = plain.id, .sliceCount = plain.sliceCount, .instanceCount = plain.instanceCount,
            .multiprocessorCount = plain.multiprocessorCount, .copyEngineCount = plain.copyEngineCount,
            .decoderCount = plain.decoderCount, .encoderCount = plain.encoderCount, .jpegCount = plain.jpegCount,
            .ofaCount = plain.ofaCount, .memorySizeMB = plain.memorySizeMB};
        snprintf(wide->name, sizeof wide->name, "MIG %s", profile->name);
        return NVML_SUCCESS;
    }
    if (version != nvmlGpuInstanceProfileInfo_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    *info = (nvmlGpuInstanceProfileInfo_v2_t){
        .version = version, .id = plain.id, .sliceCount = plain.sliceCount, .instanceCount = plain.instanceCount,
        .multiprocessorCount = plain.multiprocessorCount, .copyEngineCount = plain.copyEngineCount,
        .decoderCount = plain.decoderCount, .encoderCount = plain.encoderCount, .jpegCount = plain.jpegCount,
        .ofaCount = plain.ofaCount, .memorySizeMB = plain.memorySizeMB};
    snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_t *info)
{
    ENTER(gpu_of(device), 0);
    NEED_OK(may_ask(device));
    NEED(index < NVML_GPU_INSTANCE_PROFILE_COUNT && info, NVML_ERROR_INVALID_ARGUMENT);
    const struct sim_profile *profile = sim_profile_by_index(handle_gpu(device), index);
    NEED(profile, NVML_ERROR_NOT_SUPPORTED);
    fill_plain(profile, info);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    ENTER(gpu_of(device), 0);
    NEED_OK(may_ask(device));
    NEED(index < NVML_GPU_INSTANCE_PROFILE_COUNT && info, NVML_ERROR_INVALID_ARGUMENT);
    const struct sim_profile *profile = sim_profile_by_index(handle_gpu(device), index);
    NEED(profile, NVML_ERROR_NOT_SUPPORTED);
    LEAVE(fill_versioned(profile, info));
}
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned id, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    ENTER(gpu_of(device), 0);
    NEED_OK(may_ask(device));
    const struct sim_profile *profile = sim_profile_by_id(handle_gpu(device), id);
    NEED(profile && info, NVML_ERROR_INVALID_ARGUMENT);
    LEAVE(fill_versioned(profile, info));
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id, nvmlGpuInstancePlacement_t *places,
                                                           unsigned *count)
{
    ENTER(gpu_of(device), SIM_PRIVILEGED);
    NEED(is_gpu(device) && count, NVML_ERROR_INVALID_ARGUMENT);
    NEED(sim_mig_capable(handle_gpu(device)), NVML_ERROR_NOT_SUPPORTED);
    const struct sim_profile *profile = sim_profile_by_id(handle_gpu(device), id);
    NEED(profile, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned n = 0; places && n < profile->places; n++)
        places[n] = (nvmlGpuInstancePlacement_t){.start = profile->starts[n], .size = profile->size};
    *count = profile->places;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned id, nvmlGpuInstancePlacement_t *places,
                                                        unsigned *count)
{
    return nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, id, places, count);
}
nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id, unsigned *count)
{
    ENTER(gpu_of(device), SIM_PRIVILEGED);
    NEED_OK(may_change(device));
    const struct sim_profile *profile = sim_profile_by_id(handle_gpu(device), id);
    NEED(profile && count, NVML_ERROR_INVALID_ARGUMENT);
    *count = sim_instance_room(handle_gpu(device), profile);
    LEAVE(NVML_SUCCESS);
}

static nvmlGpuInstance_t handle_for(unsigned gpu, const struct sim_instance *one)
{
    return make_handle(KIND_INSTANCE, gpu, one->id, 0, one->serial);
}

/* The driver chooses the place, which makes the order of creation matter. */
nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    struct sim_instance *made;
    ENTER(gpu_of(device), SIM_PRIVILEGED | SIM_WRITES);
    DETAIL("profile=%u ", id);
    NEED_OK(may_change(device));
    unsigned gpu = handle_gpu(device);
    const struct sim_profile *profile = sim_profile_by_id(gpu, id);
    NEED(profile && instance, NVML_ERROR_INVALID_ARGUMENT);
    unsigned start = sim_instance_place(gpu, profile);
    NEED(start != SIM_NONE, NVML_ERROR_INSUFFICIENT_RESOURCES);
    NEED_OK(sim_instance_create(gpu, profile, start, &made));
    *instance = handle_for(gpu, made);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned id, const nvmlGpuInstancePlacement_t *place,
                                                      nvmlGpuInstance_t *instance)
{
    struct sim_instance *made;
    ENTER(gpu_of(device), SIM_PRIVILEGED | SIM_WRITES);
    DETAIL("profile=%u start=%u size=%u ", id, place ? place->start : 0, place ? place->size : 0);
    NEED_OK(may_change(device));
    const struct sim_profile *profile = sim_profile_by_id(handle_gpu(device), id);
    NEED(profile && place && instance && place->size == profile->size, NVML_ERROR_INVALID_ARGUMENT);
    NEED_OK(sim_instance_create(handle_gpu(device), profile, place->start, &made));
    *instance = handle_for(handle_gpu(device), made);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance)
{
    ENTER(gpu_of(instance), SIM_PRIVILEGED | SIM_WRITES);
    struct sim_instance *one = instance_of(instance);
    NEED(one, NVML_ERROR_INVALID_ARGUMENT);
    DETAIL("profile=%u start=%u size=%u ", one->profile_id, one->start, one->size);
    for (unsigned n = 0; n < SIM_COMPUTE; n++) NEED(!one->compute[n].used, NVML_ERROR_IN_USE);
    NEED(!sim_busy(handle_gpu(instance), one->id, SIM_NONE), NVML_ERROR_IN_USE);
    sim_instance_remove(handle_gpu(instance), one);
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instances, unsigned *count)
{
    ENTER(gpu_of(device), SIM_PRIVILEGED);
    NEED_OK(may_change(device));
    NEED(instances && count && sim_profile_by_id(handle_gpu(device), id), NVML_ERROR_INVALID_ARGUMENT);
    unsigned found = 0, gpu = handle_gpu(device);
    for (unsigned n = 0; n < SIM_INSTANCES; n++)
        if (sim->gpu[gpu].instance[n].used && sim->gpu[gpu].instance[n].profile_id == id)
            instances[found++] = handle_for(gpu, &sim->gpu[gpu].instance[n]);
    *count = found;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    ENTER(gpu_of(device), SIM_PRIVILEGED);
    NEED_OK(may_change(device));
    struct sim_instance *one = sim_instance_by_id(handle_gpu(device), id);
    NEED(one, NVML_ERROR_NOT_FOUND);
    *instance = handle_for(handle_gpu(device), one);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
    ENTER(gpu_of(instance), 0);
    struct sim_instance *one = instance_of(instance);
    NEED(one && info, NVML_ERROR_INVALID_ARGUMENT);
    *info = (nvmlGpuInstanceInfo_t){.device = make_handle(KIND_GPU, handle_gpu(instance), 0, 0, 0), .id = one->id,
                                    .profileId = one->profile_id, .placement = {.start = one->start, .size = one->size}};
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *answer)
{
    ENTER(gpu_of(device), 0);
    *answer = kind_of(device) == KIND_MIG;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    ENTER(gpu_of(device), 0);
    NEED(is_gpu(device), NVML_ERROR_INVALID_ARGUMENT);
    *count = mig_on(device) ? sim_product(handle_gpu(device))->max_instances : 0;
    LEAVE(NVML_SUCCESS);
}
/* In the order of instance and compute ids. */
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *found)
{
    ENTER(gpu_of(device), 0);
    NEED(is_gpu(device) && found, NVML_ERROR_INVALID_ARGUMENT);
    NEED(sim_mig_capable(handle_gpu(device)) && mig_on(device), NVML_ERROR_NOT_SUPPORTED);
    unsigned gpu = handle_gpu(device);
    for (unsigned id = 0; id < SIM_INSTANCE_IDS; id++) {
        struct sim_instance *one = sim_instance_by_id(gpu, id);
        for (unsigned n = 0; one && n < SIM_COMPUTE; n++)
            if (one->compute[n].used && sim_compute_visible(gpu, id, n) && index-- == 0) {
                *found = make_handle(KIND_MIG, gpu, id, n, one->serial);
                LEAVE(NVML_SUCCESS);
            }
    }
    LEAVE(NVML_ERROR_NOT_FOUND);
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *parent)
{
    ENTER(gpu_of(device), 0);
    NEED(kind_of(device) == KIND_MIG, NVML_ERROR_INVALID_ARGUMENT);
    NEED(is_mig(device), NVML_ERROR_NOT_FOUND);
    *parent = make_handle(KIND_GPU, handle_gpu(device), 0, 0, 0);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    ENTER(gpu_of(device), 0);
    NEED(is_mig(device), NVML_ERROR_INVALID_ARGUMENT);
    *id = handle_instance(device);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id)
{
    ENTER(gpu_of(device), 0);
    NEED(is_mig(device), NVML_ERROR_INVALID_ARGUMENT);
    *id = handle_compute(device);
    LEAVE(NVML_SUCCESS);
}
