/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * gpu-holder [--seconds N] [--name NAME]: a process that uses the first MIG device, else the first GPU, that it sees. */
#include "sim.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static void end(int number) { ended = number; }

static nvmlReturn_t first_device(char *uuid, unsigned length)
{
    nvmlDevice_t gpu, part;
    unsigned gpus = 0, parts = 0;
    nvmlReturn_t result = nvmlDeviceGetCount_v2(&gpus);
    for (unsigned n = 0; result == NVML_SUCCESS && n < gpus; n++) {
        if (nvmlDeviceGetHandleByIndex_v2(n, &gpu) != NVML_SUCCESS) continue;
        if (nvmlDeviceGetMaxMigDeviceCount(gpu, &parts) != NVML_SUCCESS) parts = 0;
        for (unsigned m = 0; m < parts; m++)
            if (nvmlDeviceGetMigDeviceHandleByIndex(gpu, m, &part) == NVML_SUCCESS)
                return nvmlDeviceGetUUID(part, uuid, length);
    }
    if (result == NVML_SUCCESS && !gpus) return NVML_ERROR_NOT_FOUND;
    if (result == NVML_SUCCESS) result = nvmlDeviceGetHandleByIndex_v2(0, &gpu);
    return result == NVML_SUCCESS ? nvmlDeviceGetUUID(gpu, uuid, length) : result;
}

int main(int count, char **words)
{
    unsigned seconds = 0;
    const char *name = "gpu-holder";
    char uuid[96];
    for (int n = 1; n + 1 < count; n += 2) {
        if (!strcmp(words[n], "--seconds")) seconds = (unsigned)strtoul(words[n + 1], NULL, 10);
        if (!strcmp(words[n], "--name")) name = words[n + 1];
    }
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigset_t caught, before;
    sigemptyset(&caught);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGALRM);
    sigprocmask(SIG_BLOCK, &caught, &before);
    nvmlReturn_t result = nvmlInit_v2();
    if (result == NVML_SUCCESS) result = first_device(uuid, sizeof uuid);
    if (result == NVML_SUCCESS) result = simHold(uuid, name);
    if (result != NVML_SUCCESS) {
        fprintf(stderr, "gpu-holder: %s\n", nvmlErrorString(result));
        return 1;
    }
    printf("%s\n", uuid);
    fflush(stdout);
    if (seconds) alarm(seconds);
    while (!ended) sigsuspend(&before);
    simRelease();
    nvmlShutdown();
    return 0;
}
