/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * nvidia-smi mig: profiles, placements, GPU and compute instances. */
#include "smi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 16 };
typedef nvmlGpuInstanceProfileInfo_v2_t profile_info;

static bool profile_at(nvmlDevice_t device, unsigned index, profile_info *info)
{
    memset(info, 0, sizeof *info);
    info->version = nvmlGpuInstanceProfileInfo_v2;
    return nvmlDeviceGetGpuInstanceProfileInfoV(device, index, info) == NVML_SUCCESS;
}
static bool profile_named(nvmlDevice_t device, const char *word, profile_info *info)
{
    char *end;
    unsigned id = (unsigned)strtoul(word, &end, 10);
    for (unsigned index = 0; index < NVML_GPU_INSTANCE_PROFILE_COUNT; index++)
        if (profile_at(device, index, info) && ((!*end && info->id == id) || !strcmp(info->name + 4, word))) return true;
    return false;
}
static void needs(nvmlReturn_t result, const char *what, unsigned gpu)
{
    if (result == NVML_SUCCESS) return;
    printf("Unable to %s on GPU %2u: %s\n", what, gpu, nvmlErrorString(result));
    printf("Failed to %s: %s\n", what, nvmlErrorString(result));
    exit(result);
}

static void list_profiles(const struct smi_gpu *gpu, bool places)
{
    profile_info info;
    for (unsigned index = 0; index < NVML_GPU_INSTANCE_PROFILE_COUNT; index++) {
        unsigned room = 0, count = 0;
        nvmlGpuInstancePlacement_t at[ROOM];
        if (!profile_at(gpu->device, index, &info)) continue;
        if (!places) {
            needs(nvmlDeviceGetGpuInstanceRemainingCapacity(gpu->device, info.id, &room), "display GPU instance profiles", gpu->index);
            printf("|  %2u  %-18s %3u  %2u/%-2u  %8.2f  %3u %3u %3u %3u %3u %3u |\n", gpu->index, info.name, info.id, room, info.instanceCount,
                   (double)info.memorySizeMB / 1024, info.multiprocessorCount, info.copyEngineCount, info.decoderCount,
                   info.encoderCount, info.jpegCount, info.ofaCount);
            continue;
        }
        needs(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, info.id, NULL, &count), "display placements", gpu->index);
        needs(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, info.id, at, &count), "display placements", gpu->index);
        printf("GPU %2u Profile ID %2u Placement%s : {", gpu->index, info.id, count > 1 ? "s" : "");
        for (unsigned n = 0; n < count; n++) printf("%s%u", n ? "," : "", at[n].start);
        printf("}:%u\n", at[0].size);
    }
}

typedef void (*visitor)(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                        const nvmlGpuInstanceInfo_t *info);
static unsigned each_instance(const struct smi_gpu *gpu, visitor visit)
{
    profile_info profile;
    unsigned all = 0;
    for (unsigned index = 0; index < NVML_GPU_INSTANCE_PROFILE_COUNT; index++) {
        nvmlGpuInstance_t found[ROOM];
        nvmlGpuInstanceInfo_t info;
        unsigned count = ROOM;
        if (!profile_at(gpu->device, index, &profile)) continue;
        needs(nvmlDeviceGetGpuInstances(gpu->device, profile.id, found, &count), "list GPU instances", gpu->index);
        for (unsigned n = 0; n < count; n++)
            if (nvmlGpuInstanceGetInfo(found[n], &info) == NVML_SUCCESS) { visit(gpu, &profile, found[n], &info); all++; }
    }
    return all;
}
static void show_instance(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                          const nvmlGpuInstanceInfo_t *info)
{
    (void)instance;
    printf("| %3u  %-16s %5u %10u %10u:%-5u |\n", gpu->index, profile->name, info->profileId, info->id, info->placement.start,
           info->placement.size);
}

static unsigned only_instance = ~0u, only_compute = ~0u, done;
static unsigned computes(nvmlGpuInstance_t instance, nvmlComputeInstance_t *found)
{
    unsigned all = 0;
    for (unsigned index = 0; index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; index++) {
        nvmlComputeInstanceProfileInfo_t kind;
        unsigned count = ROOM;
        if (nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, &kind) != NVML_SUCCESS) continue;
        if (kind.id == 7 && index == 0) continue; /* the same profile answers to 0 and to 7 */
        if (nvmlGpuInstanceGetComputeInstances(instance, kind.id, found + all, &count) == NVML_SUCCESS) all += count;
    }
    return all;
}
static void each_compute(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                         const nvmlGpuInstanceInfo_t *info, bool destroy)
{
    nvmlComputeInstance_t found[ROOM];
    nvmlComputeInstanceInfo_t about;
    unsigned count = computes(instance, found);
    if (only_instance != ~0u && info->id != only_instance) return;
    for (unsigned n = 0; n < count; n++) {
        if (nvmlComputeInstanceGetInfo_v2(found[n], &about) != NVML_SUCCESS) continue;
        if (only_compute != ~0u && about.id != only_compute) continue;
        done++;
        if (!destroy) {
            printf("| %3u %6u  %-16s %5u %8u %8u:%-4u |\n", gpu->index, info->id, profile->name, about.profileId, about.id,
                   about.placement.start, about.placement.size);
            continue;
        }
        nvmlReturn_t result = nvmlComputeInstanceDestroy(found[n]);
        if (result != NVML_SUCCESS) needs(result, "destroy compute instance", gpu->index);
        printf("Successfully destroyed compute instance ID %2u from GPU %2u GPU instance ID %2u\n", about.id, gpu->index, info->id);
    }
}
static void show_computes(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                          const nvmlGpuInstanceInfo_t *info)
{
    each_compute(gpu, profile, instance, info, false);
}
static void destroy_computes(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                             const nvmlGpuInstanceInfo_t *info)
{
    each_compute(gpu, profile, instance, info, true);
}
static void destroy_instance(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                             const nvmlGpuInstanceInfo_t *info)
{
    (void)profile;
    if (only_instance != ~0u && info->id != only_instance) return;
    needs(nvmlGpuInstanceDestroy(instance), "destroy GPU instance", gpu->index);
    done++;
    printf("Successfully destroyed GPU instance ID %2u from GPU %2u\n", info->id, gpu->index);
}

static void fill(const struct smi_gpu *gpu, nvmlGpuInstance_t instance, unsigned id, unsigned slices)
{
    nvmlComputeInstance_t made;
    nvmlComputeInstanceProfileInfo_t kind;
    for (unsigned index = 0; index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; index++) {
        if (nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, &kind) != NVML_SUCCESS) continue;
        if (kind.sliceCount != slices) continue;
        needs(nvmlGpuInstanceCreateComputeInstance(instance, kind.id, &made), "create compute instance", gpu->index);
        printf("Successfully created compute instance on GPU %2u GPU instance ID %2u using profile ID %2u\n", gpu->index, id, kind.id);
        return;
    }
}
/* Compute instances of the profiles named, by id, in the GPU instance of -gi. */
static const char *wanted_compute;
static void create_compute(const struct smi_gpu *gpu, const profile_info *profile, nvmlGpuInstance_t instance,
                           const nvmlGpuInstanceInfo_t *info)
{
    char copy[512];
    (void)profile;
    if (only_instance != ~0u && info->id != only_instance) return;
    snprintf(copy, sizeof copy, "%s", wanted_compute);
    for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
        nvmlComputeInstance_t made;
        char *end;
        unsigned id = (unsigned)strtoul(word, &end, 10);
        needs(*word && !*end ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT, "create a compute instance", gpu->index);
        needs(nvmlGpuInstanceCreateComputeInstance(instance, id, &made), "create a compute instance", gpu->index);
        done++;
        printf("Successfully created compute instance on GPU %2u GPU instance ID %2u using profile ID %2u\n", gpu->index, info->id, id);
    }
}
/* Each word is a profile's id or name, with :START where the place matters. */
static void create(const struct smi_gpu *gpu, const char *list, bool filled)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", list);
    for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
        profile_info profile;
        nvmlGpuInstance_t made;
        nvmlGpuInstanceInfo_t info;
        nvmlGpuInstancePlacement_t at[ROOM];
        unsigned count = 0;
        char *place = strchr(word, ':');
        if (place) *place++ = 0;
        if (!profile_named(gpu->device, word, &profile)) needs(NVML_ERROR_INVALID_ARGUMENT, "create a GPU instance", gpu->index);
        nvmlReturn_t result;
        if (place) {
            needs(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, profile.id, at, &count), "create a GPU instance", gpu->index);
            at[0].start = (unsigned)strtoul(place, NULL, 10);
            result = nvmlDeviceCreateGpuInstanceWithPlacement(gpu->device, profile.id, &at[0], &made);
        } else result = nvmlDeviceCreateGpuInstance(gpu->device, profile.id, &made);
        needs(result, "create a GPU instance", gpu->index);
        needs(nvmlGpuInstanceGetInfo(made, &info), "create a GPU instance", gpu->index);
        printf("Successfully created GPU instance ID %2u on GPU %2u using profile %s (ID %2u)\n", info.id, gpu->index, profile.name,
               profile.id);
        if (filled) fill(gpu, made, info.id, profile.sliceCount);
    }
}

int smi_mig(int count, char **words)
{
    struct smi_gpu gpus[32];
    const char *chosen = NULL, *wanted = NULL, *command = "";
    bool filled = false;
    for (int n = 0; n < count; n++) {
        bool more = n + 1 < count;
        if (!strcmp(words[n], "-i") && more) chosen = words[++n];
        else if (!strcmp(words[n], "-C")) filled = true;
        else if (!strcmp(words[n], "-gi") && more) only_instance = (unsigned)strtoul(words[++n], NULL, 10);
        else if (!strcmp(words[n], "-ci") && more) only_compute = (unsigned)strtoul(words[++n], NULL, 10);
        else if (!strcmp(words[n], "-cgi") && more) { command = words[n]; wanted = words[++n]; }
        else if (!strcmp(words[n], "-cci") && more) { command = words[n]; wanted_compute = words[++n]; }
        else command = words[n];
    }
    unsigned found = smi_chosen(chosen, gpus, 32), any = 0;
    for (unsigned n = 0; n < found; n++) {
        unsigned current = 0, pending = 0;
        if (nvmlDeviceGetMigMode(gpus[n].device, &current, &pending) != NVML_SUCCESS || !current) continue;
        any++;
        if (!strcmp(command, "-lgip")) list_profiles(&gpus[n], false);
        else if (!strcmp(command, "-lgipp")) list_profiles(&gpus[n], true);
        else if (!strcmp(command, "-lgi")) done += each_instance(&gpus[n], show_instance);
        else if (!strcmp(command, "-lci")) each_instance(&gpus[n], show_computes);
        else if (!strcmp(command, "-dci")) each_instance(&gpus[n], destroy_computes);
        else if (!strcmp(command, "-dgi")) each_instance(&gpus[n], destroy_instance);
        else if (wanted_compute) each_instance(&gpus[n], create_compute);
        else if (wanted) create(&gpus[n], wanted, filled);
        else { printf("Option \"%s\" is not recognized.\n", command); return 2; }
    }
    if (!any) { printf("No MIG-enabled devices found.\n"); return 6; }
    if (!done && (!strcmp(command, "-lgi") || !strcmp(command, "-dgi") || wanted_compute)) { printf("No GPU instances found: Not Found\n"); return 6; }
    return 0;
}
