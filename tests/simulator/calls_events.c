/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * Event sets: Xid errors that simctl injects. */
#include "handles.h"
#include <stdlib.h>
#include <time.h>

enum { POLL_MS = 50 };
struct event_set { uint64_t next; unsigned long long types[SIM_GPUS]; };

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    ENTER(-1, 0);
    struct event_set *made = calloc(1, sizeof *made);
    NEED(made, NVML_ERROR_MEMORY);
    made->next = sim->xids;
    *set = (nvmlEventSet_t)(void *)made;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    free(set);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    ENTER(gpu_of(device), 0);
    NEED(is_gpu(device), NVML_ERROR_INVALID_ARGUMENT);
    *types = nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeSingleBitEccError;
    LEAVE(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    ENTER(gpu_of(device), 0);
    NEED(is_gpu(device) && set, NVML_ERROR_INVALID_ARGUMENT);
    ((struct event_set *)(void *)set)->types[handle_gpu(device)] |= types;
    LEAVE(NVML_SUCCESS);
}

static nvmlReturn_t look(struct event_set *set, nvmlEventData_t *data)
{
    ENTER(-1, 0);
    if (sim->xids - set->next > SIM_XIDS) set->next = sim->xids - SIM_XIDS;
    for (; set->next < sim->xids; set->next++) {
        unsigned gpu = sim->xid[set->next % SIM_XIDS].gpu;
        if (!(set->types[gpu] & nvmlEventTypeXidCriticalError)) continue;
        *data = (nvmlEventData_t){.device = make_handle(KIND_GPU, gpu, 0, 0, 0), .eventType = nvmlEventTypeXidCriticalError,
                                  .eventData = sim->xid[set->next++ % SIM_XIDS].code, .gpuInstanceId = SIM_NONE,
                                  .computeInstanceId = SIM_NONE};
        LEAVE(NVML_SUCCESS);
    }
    LEAVE(NVML_ERROR_TIMEOUT);
}
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms)
{
    struct timespec pause = {0, POLL_MS * 1000000L};
    for (unsigned waited = 0;; waited += POLL_MS) {
        nvmlReturn_t result = look((struct event_set *)(void *)set, data);
        if (result != NVML_ERROR_TIMEOUT || waited >= timeout_ms) return result;
        nanosleep(&pause, NULL);
    }
}
nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms)
{
    return nvmlEventSetWait_v2(set, data, timeout_ms);
}
