/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * NVML calls about one GPU or MIG device: what it is, its mode, its processes. */
#include "handles.h"
#include <stdio.h>

static nvmlReturn_t known(const void *device)
{
    if (is_gpu(device) || is_mig(device)) return NVML_SUCCESS;
    return kind_of(device) == KIND_MIG ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
}
#define NEED_DEVICE do { nvmlReturn_t is = known(device); if (is != NVML_SUCCESS) LEAVE(is); } while (0)
#define NEED_GPU NEED(is_gpu(device), NVML_ERROR_INVALID_ARGUMENT)

static const struct sim_profile *profile_of(const void *device)
{
    return sim_profile_by_id(handle_gpu(device), instance_of(device)->profile_id);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    char text[160];
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    const char *board = sim_product(handle_gpu(device))->name;
    if (is_gpu(device)) LEAVE(copy_text(board, name, length));
    const struct sim_profile *profile = profile_of(device);
    unsigned slices = sim_compute_profile(profile, compute_of(device)->profile_id)->slices;
    if (slices == profile->slices) snprintf(text, sizeof text, "%s MIG %s", board, profile->name);
    else snprintf(text, sizeof text, "%s MIG %uc.%s", board, slices, profile->name);
    LEAVE(copy_text(text, name, length));
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    LEAVE(copy_text(is_gpu(device) ? sim->gpu[handle_gpu(device)].uuid : compute_of(device)->uuid, uuid, length));
}
nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    LEAVE(copy_text(sim->gpu[handle_gpu(device)].serial, serial, length));
}
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    ENTER(gpu_of(device), 0);
    NEED_GPU;
    *minor = handle_gpu(device);
    LEAVE(NVML_SUCCESS);
}
/* The device plugin asks where several whole GPUs of a node are to be chosen from. Links of NVLink are not simulated. */
nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device, nvmlDevice_t other, nvmlGpuTopologyLevel_t *level)
{
    ENTER(gpu_of(device), 0);
    NEED_GPU;
    NEED(is_gpu(other), NVML_ERROR_INVALID_ARGUMENT);
    if (device == other) *level = NVML_TOPOLOGY_INTERNAL;
    else *level = sim_numa_node(handle_gpu(device)) == sim_numa_node(handle_gpu(other)) ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    *brand = strstr(sim_product(handle_gpu(device))->name, "RTX") ? NVML_BRAND_NVIDIA_RTX : NVML_BRAND_NVIDIA;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *architecture)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    *architecture = sim_product(handle_gpu(device))->architecture;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    *major = (int)sim_product(handle_gpu(device))->major;
    *minor = (int)sim_product(handle_gpu(device))->minor;
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    ENTER(gpu_of(device), 0);
    NEED_GPU;
    memset(pci, 0, sizeof *pci);
    pci->bus = sim->gpu[handle_gpu(device)].bus;
    pci->pciDeviceId = sim_product(handle_gpu(device))->pci_id;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus & 0xff);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) { return nvmlDeviceGetPciInfo_v3(device, pci); }
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) { return nvmlDeviceGetPciInfo_v3(device, pci); }

static unsigned long long memory_of(const void *device)
{
    return (is_gpu(device) ? sim_product(handle_gpu(device))->memory_mib : profile_of(device)->memory_mib) * 1048576ULL;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    *memory = (nvmlMemory_t){.total = memory_of(device), .free = memory_of(device), .used = 0};
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    NEED(memory->version == nvmlMemory_v2, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    memory->total = memory->free = memory_of(device);
    memory->used = memory->reserved = 0;
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    ENTER(gpu_of(device), 0);
    NEED(!is_gpu(device), NVML_ERROR_INVALID_ARGUMENT);
    NEED_DEVICE;
    const struct sim_profile *profile = profile_of(device);
    const struct sim_compute_profile *kind = sim_compute_profile(profile, compute_of(device)->profile_id);
    *attributes = (nvmlDeviceAttributes_t){
        .multiprocessorCount = kind->multiprocessors, .sharedCopyEngineCount = profile->copy,
        .sharedDecoderCount = profile->decoders, .sharedEncoderCount = profile->encoders,
        .sharedJpegCount = profile->jpeg, .sharedOfaCount = profile->ofa, .gpuInstanceSliceCount = profile->slices,
        .computeInstanceSliceCount = kind->slices, .memorySizeMB = profile->memory_mib};
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    return nvmlDeviceGetAttributes_v2(device, attributes);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    bool resetless = !sim_product(handle_gpu(device))->needs_reset && sim_mig_capable(handle_gpu(device));
    for (int n = 0; n < count; n++) {
        bool ours = values[n].fieldId == NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED ||
                    values[n].fieldId == NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE;
        values[n].nvmlReturn = ours ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        values[n].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        values[n].value.uiVal = resetless;
    }
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
    ENTER(gpu_of(device), 0);
    NEED_GPU;
    *mode = NVML_FEATURE_ENABLED;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, nvmlGpuVirtualizationMode_t *mode)
{
    ENTER(gpu_of(device), 0);
    NEED_DEVICE;
    bool guest = sim->gpu[handle_gpu(device)].passthrough;
    *mode = guest ? NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH : NVML_GPU_VIRTUALIZATION_MODE_NONE;
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    ENTER(gpu_of(device), 0);
    NEED_GPU;
    NEED(sim_mig_capable(handle_gpu(device)), NVML_ERROR_NOT_SUPPORTED);
    *current = sim->gpu[handle_gpu(device)].mig_current;
    *pending = sim->gpu[handle_gpu(device)].mig_pending;
    LEAVE(NVML_SUCCESS);
}

/* The call succeeds where only the activation does not: then the mode is pending (nvml.h, NVIDIA's MIG guide). */
nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation)
{
    ENTER(gpu_of(device), SIM_PRIVILEGED | SIM_WRITES);
    DETAIL("mode=%u ", mode);
    NEED_GPU;
    NEED(mode <= 1 && activation, NVML_ERROR_INVALID_ARGUMENT);
    unsigned gpu = handle_gpu(device);
    struct sim_gpu *one = &sim->gpu[gpu];
    NEED(sim_mig_capable(gpu), NVML_ERROR_NOT_SUPPORTED);
    bool holds_instances = false;
    for (unsigned n = 0; n < SIM_INSTANCES; n++) holds_instances |= one->instance[n].used;
    one->mig_pending = mode;
    *activation = NVML_SUCCESS;
    if (one->mig_current == one->mig_pending) LEAVE(NVML_SUCCESS);
    if (sim_busy(gpu, SIM_NONE, SIM_NONE)) *activation = NVML_ERROR_IN_USE;
    else if (sim_product(gpu)->needs_reset && one->passthrough) *activation = NVML_ERROR_RESET_REQUIRED;
    else if (!sim_product(gpu)->needs_reset && holds_instances) *activation = NVML_ERROR_IN_USE;
    else sim_reset_gpu(gpu); /* Ampere by itself; newer ones change the mode without a reset, with nothing to lose */
    LEAVE(NVML_SUCCESS);
}

static nvmlReturn_t list_processes(const void *device, unsigned *count, nvmlProcessInfo_t *infos, bool compute)
{
    struct sim_process found[SIM_HOLDS];
    unsigned room = *count, matching = 0;
    unsigned all = compute ? sim_processes(handle_gpu(device), found, SIM_HOLDS) : 0;
    for (unsigned n = 0; n < all; n++) {
        bool here = is_gpu(device) || (found[n].instance == handle_instance(device) && found[n].compute == handle_compute(device));
        if (!here) continue;
        if (infos && matching < room)
            infos[matching] = (nvmlProcessInfo_t){.pid = found[n].pid, .usedGpuMemory = 1 << 20,
                                                  .gpuInstanceId = found[n].instance, .computeInstanceId = found[n].compute};
        matching++;
    }
    *count = matching;
    return matching > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
#define PROCESS_LIST(name, compute) \
    nvmlReturn_t name(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos) \
    { \
        ENTER(gpu_of(device), 0); \
        NEED_DEVICE; \
        NEED(count, NVML_ERROR_INVALID_ARGUMENT); \
        LEAVE(list_processes(device, count, infos, compute)); \
    }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, true)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, false)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, false)
