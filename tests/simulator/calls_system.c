/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * NVML calls about the host, handles by index, UUID and PCI, and what lies beyond NVML (reset, holders). */
#include "handles.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

const char *nvmlErrorString(nvmlReturn_t result)
{
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions", "Already Initialized",
        "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded", "Timeout",
        "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM",
        "GPU is lost", "GPU requires reset", "The operating system has blocked the request",
        "RM has detected an NVML/RM version mismatch", "In use by another client", "Insufficient Memory", "No Data",
        "The requested vgpu operation is not available", "Insufficient Resources", "Frequency Not Supported",
        "Argument Version Mismatch", "Deprecated", "Not Ready", "GPU not found", "Invalid State",
    };
    return (unsigned)result < sizeof texts / sizeof *texts ? texts[result] : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    ENTER(-1, 0);
    LEAVE(copy_text(sim->driver_version, version, length));
}
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    char text[40];
    ENTER(-1, 0);
    snprintf(text, sizeof text, "%u.%s", sim->cuda_version / 1000, sim->driver_version);
    LEAVE(copy_text(text, version, length));
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    ENTER(-1, 0);
    NEED(version, NVML_ERROR_INVALID_ARGUMENT);
    *version = (int)sim->cuda_version;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length)
{
    struct sim_process found[SIM_HOLDS];
    ENTER(-1, 0);
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        unsigned count = sim_processes(gpu, found, SIM_HOLDS);
        for (unsigned n = 0; n < count; n++)
            if (found[n].pid == pid) LEAVE(copy_text(found[n].name, name, length));
    }
    LEAVE(NVML_ERROR_NOT_FOUND);
}

/* Indices are dense over the GPUs that this process may open. */
static int visible(unsigned index)
{
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++)
        if (sim_gpu_visible(gpu) && index-- == 0) return (int)gpu;
    return -1;
}
static unsigned visible_count(unsigned below)
{
    unsigned count = 0;
    for (unsigned gpu = 0; gpu < below; gpu++) count += sim_gpu_visible(gpu);
    return count;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER(-1, 0);
    NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = visible_count(sim->gpus);
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    ENTER(-1, 0);
    int gpu = visible(index);
    NEED(device && gpu >= 0, NVML_ERROR_INVALID_ARGUMENT);
    *device = make_handle(KIND_GPU, (unsigned)gpu, 0, 0, 0);
    LEAVE(sim->gpu[gpu].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    ENTER(gpu_of(device), 0);
    NEED(index, NVML_ERROR_INVALID_ARGUMENT);
    if (is_gpu(device)) {
        *index = visible_count(handle_gpu(device));
        LEAVE(NVML_SUCCESS);
    }
    NEED(is_mig(device), NVML_ERROR_INVALID_ARGUMENT);
    unsigned place = 0, gpu = handle_gpu(device);
    for (unsigned id = 0; id < SIM_INSTANCE_IDS; id++) {
        struct sim_instance *one = sim_instance_by_id(gpu, id);
        for (unsigned n = 0; one && n < SIM_COMPUTE; n++) {
            if (id == handle_instance(device) && n == handle_compute(device)) { *index = place; LEAVE(NVML_SUCCESS); }
            place += one->compute[n].used && sim_compute_visible(gpu, id, n);
        }
    }
    LEAVE(NVML_ERROR_NOT_FOUND);
}

static nvmlReturn_t by_uuid(const char *uuid, nvmlDevice_t *device)
{
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        if (!sim_gpu_visible(gpu)) continue;
        if (!strcmp(sim->gpu[gpu].uuid, uuid)) {
            *device = make_handle(KIND_GPU, gpu, 0, 0, 0);
            return sim->gpu[gpu].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
        }
        for (struct sim_instance *one = sim->gpu[gpu].instance; one < sim->gpu[gpu].instance + SIM_INSTANCES; one++)
            for (unsigned n = 0; one->used && n < SIM_COMPUTE; n++)
                if (one->compute[n].used && !strcmp(one->compute[n].uuid, uuid) && sim_compute_visible(gpu, one->id, n)) {
                    *device = make_handle(KIND_MIG, gpu, one->id, n, one->serial);
                    return NVML_SUCCESS;
                }
    }
    return NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    ENTER(-1, 0);
    NEED(uuid && device, NVML_ERROR_INVALID_ARGUMENT);
    LEAVE(by_uuid(uuid, device));
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device)
{
    unsigned domain, number, slot, function = 0;
    ENTER(-1, 0);
    NEED(bus && device, NVML_ERROR_INVALID_ARGUMENT);
    NEED(sscanf(bus, "%x:%x:%x.%x", &domain, &number, &slot, &function) >= 3, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++)
        if (!domain && !slot && sim->gpu[gpu].bus == number && sim_gpu_visible(gpu)) {
            *device = make_handle(KIND_GPU, gpu, 0, 0, 0);
            LEAVE(sim->gpu[gpu].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
        }
    LEAVE(NVML_ERROR_NOT_FOUND);
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByPciBusId_v2(bus, device);
}

/* nvidia-smi --gpu-reset: all or nothing, and only where no process is on one of them. */
nvmlReturn_t simReset(const unsigned *indices, unsigned count)
{
    ENTER(-1, SIM_PRIVILEGED | SIM_WRITES);
    int length = 0;
    for (unsigned n = 0; n < count; n++) {
        NEED(indices[n] < sim->gpus, NVML_ERROR_NOT_FOUND);
        NEED(!sim_busy(indices[n], SIM_NONE, SIM_NONE), NVML_ERROR_IN_USE);
        length += snprintf(call.detail + length, sizeof call.detail - (size_t)length, "reset=%u ", indices[n]);
    }
    for (unsigned n = 0; n < count; n++) sim_reset_gpu(indices[n]);
    LEAVE(NVML_SUCCESS);
}

nvmlReturn_t simHold(const char *uuid, const char *name)
{
    nvmlDevice_t device = NULL;
    ENTER(-1, 0);
    NEED(by_uuid(uuid, &device) == NVML_SUCCESS, NVML_ERROR_NOT_FOUND);
    for (struct sim_hold *hold = sim->hold; hold < sim->hold + SIM_HOLDS; hold++) {
        if (hold->used) continue;
        memset(hold, 0, sizeof *hold);
        hold->used = true;
        hold->gpu = handle_gpu(device);
        hold->instance = kind_of(device) == KIND_MIG ? handle_instance(device) : SIM_NONE;
        hold->compute = kind_of(device) == KIND_MIG ? handle_compute(device) : SIM_NONE;
        hold->pid = (unsigned)getpid();
        hold->pid_namespace = sim_own_pid_namespace();
        hold->started = sim_start_time("/proc", hold->pid);
        snprintf(hold->name, sizeof hold->name, "%s", name);
        LEAVE(NVML_SUCCESS);
    }
    LEAVE(NVML_ERROR_INSUFFICIENT_RESOURCES);
}

nvmlReturn_t simRelease(void)
{
    ENTER(-1, 0);
    for (struct sim_hold *hold = sim->hold; hold < sim->hold + SIM_HOLDS; hold++)
        if (hold->pid == (unsigned)getpid() && hold->pid_namespace == sim_own_pid_namespace()) hold->used = false;
    LEAVE(NVML_SUCCESS);
}
