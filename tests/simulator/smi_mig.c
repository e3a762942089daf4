/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * nvidia-smi mig: GPU and compute instances made, destroyed and listed. The tables are smi_tables.c's. */
#include "smi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 32 };

/* NVML's profile numbers in the order in which published -lgip and -lgipp listings have the profiles. */
static const unsigned ORDER[] = {
    NVML_GPU_INSTANCE_PROFILE_1_SLICE, NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1, NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2,
    NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX, NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME, NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME,
    NVML_GPU_INSTANCE_PROFILE_2_SLICE, NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1, NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX,
    NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME, NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME, NVML_GPU_INSTANCE_PROFILE_3_SLICE,
    NVML_GPU_INSTANCE_PROFILE_3_SLICE_GFX, NVML_GPU_INSTANCE_PROFILE_4_SLICE, NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX,
    NVML_GPU_INSTANCE_PROFILE_6_SLICE, NVML_GPU_INSTANCE_PROFILE_7_SLICE, NVML_GPU_INSTANCE_PROFILE_8_SLICE};
enum { PROFILES = sizeof ORDER / sizeof *ORDER };

/* What the command line asks for; a list is comma-separated ids, NULL stands for all. */
static struct { const char *wanted, *gpus, *instances, *computes; bool filled; } asked;
static unsigned done; /* rows shown, instances made or destroyed */

static bool profile_at(nvmlDevice_t device, unsigned place, smi_profile_info *info)
{
    memset(info, 0, sizeof *info);
    info->version = nvmlGpuInstanceProfileInfo_v2;
    return nvmlDeviceGetGpuInstanceProfileInfoV(device, ORDER[place], info) == NVML_SUCCESS;
}
static bool profile_named(nvmlDevice_t device, const char *word, smi_profile_info *info)
{
    char *end;
    unsigned id = (unsigned)strtoul(word, &end, 10);
    for (unsigned n = 0; n < PROFILES; n++)
        if (profile_at(device, n, info) && ((!*end && info->id == id) || !strcmp(info->name + 4, word))) return true;
    return false;
}

/* "Failed to create GPU instances: Insufficient Resources", as the last line; the code is NVML's. */
static void need(nvmlReturn_t result, const char *what)
{
    if (result == NVML_SUCCESS) return;
    printf("Failed to %s: %s\n", what, nvmlErrorString(result));
    exit(result);
}
static bool listed(const char *list, unsigned id)
{
    for (const char *word = list; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL)
        if (strtoul(word, NULL, 10) == id) return true;
    return !list;
}

typedef void (*visitor)(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                        const nvmlGpuInstanceInfo_t *info);
/* In the order of profiles, as the published listings have them. */
static void each_instance(const struct smi_gpu *gpu, const char *what, visitor visit)
{
    smi_profile_info profile;
    for (unsigned place = 0; place < PROFILES; place++) {
        nvmlGpuInstance_t found[SMI_ROOM];
        nvmlGpuInstanceInfo_t info;
        unsigned count = SMI_ROOM;
        if (!profile_at(gpu->device, place, &profile)) continue;
        need(nvmlDeviceGetGpuInstances(gpu->device, profile.id, found, &count), what);
        for (unsigned n = 0; n < count; n++)
            if (nvmlGpuInstanceGetInfo(found[n], &info) == NVML_SUCCESS && listed(asked.instances, info.id))
                visit(gpu, &profile, found[n], &info);
    }
}

static bool compute_profile(nvmlGpuInstance_t instance, unsigned index, smi_compute_info *kind)
{
    memset(kind, 0, sizeof *kind);
    kind->version = nvmlComputeInstanceProfileInfo_v2;
    if (nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance, index, 0, kind) != NVML_SUCCESS) return false;
    return kind->id != 7 || index == 7; /* the 1g profile of double memory answers to 0 as well */
}

typedef void (*compute_visitor)(const struct smi_gpu *gpu, unsigned instance, const smi_compute_info *kind,
                                nvmlComputeInstance_t compute, const nvmlComputeInstanceInfo_t *info);
static void each_compute(const struct smi_gpu *gpu, nvmlGpuInstance_t instance, unsigned id, compute_visitor visit)
{
    smi_compute_info kind;
    for (unsigned index = 0; index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; index++) {
        nvmlComputeInstance_t found[SMI_ROOM];
        nvmlComputeInstanceInfo_t info;
        unsigned count = SMI_ROOM;
        if (!compute_profile(instance, index, &kind)) continue;
        if (nvmlGpuInstanceGetComputeInstances(instance, kind.id, found, &count) != NVML_SUCCESS) continue;
        for (unsigned n = 0; n < count; n++)
            if (nvmlComputeInstanceGetInfo_v2(found[n], &info) == NVML_SUCCESS && listed(asked.computes, info.id))
                visit(gpu, id, &kind, found[n], &info);
    }
}

static void show_instance(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                          const nvmlGpuInstanceInfo_t *info)
{
    (void)instance;
    smi_instance_row(done++ == 0, gpu->index, profile->name, info);
}
static void show_compute(const struct smi_gpu *gpu, unsigned instance, const smi_compute_info *kind,
                         nvmlComputeInstance_t compute, const nvmlComputeInstanceInfo_t *info)
{
    (void)compute;
    smi_compute_row(done++ == 0, gpu->index, instance, kind->name, info);
}
static void show_computes(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                          const nvmlGpuInstanceInfo_t *info)
{
    (void)profile;
    each_compute(gpu, instance, info->id, show_compute);
}
static void show_compute_profiles(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                                  const nvmlGpuInstanceInfo_t *info)
{
    smi_compute_info kind;
    for (unsigned index = 0; index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; index++) {
        unsigned room = 0;
        if (!compute_profile(instance, index, &kind)) continue;
        need(nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance, kind.id, &room), "display compute instance profiles");
        smi_compute_profile_row(done++ == 0, gpu->index, info->id, &kind, room, kind.sliceCount == profile->sliceCount);
    }
}

static void destroy_compute(const struct smi_gpu *gpu, unsigned instance, const smi_compute_info *kind,
                            nvmlComputeInstance_t compute, const nvmlComputeInstanceInfo_t *info)
{
    (void)kind;
    nvmlReturn_t result = nvmlComputeInstanceDestroy(compute);
    if (result != NVML_SUCCESS)
        printf("Unable to destroy compute instance ID %2u from GPU %2u GPU instance ID %2u: %s\n", info->id, gpu->index, instance,
               nvmlErrorString(result));
    need(result, "destroy compute instances");
    printf("Successfully destroyed compute instance ID %2u from GPU %2u GPU instance ID %2u\n", info->id, gpu->index, instance);
    done++;
}
static void destroy_computes(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                             const nvmlGpuInstanceInfo_t *info)
{
    (void)profile;
    each_compute(gpu, instance, info->id, destroy_compute);
}
static void destroy_instance(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                             const nvmlGpuInstanceInfo_t *info)
{
    (void)profile;
    nvmlReturn_t result = nvmlGpuInstanceDestroy(instance);
    if (result != NVML_SUCCESS)
        printf("Unable to destroy GPU instance ID %2u from GPU %2u: %s\n", info->id, gpu->index, nvmlErrorString(result));
    need(result, "destroy GPU instances");
    printf("Successfully destroyed GPU instance ID %2u from GPU %2u\n", info->id, gpu->index);
    done++;
}

/* A compute instance of a profile by id or name; NULL is the one that fills the GPU instance. */
static void create_compute(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance, unsigned id,
                           const char *word)
{
    nvmlComputeInstance_t made;
    nvmlComputeInstanceInfo_t info;
    smi_compute_info kind;
    nvmlReturn_t result = NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned index = 0; index < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; index++) {
        char *end = NULL;
        if (!compute_profile(instance, index, &kind)) continue;
        bool meant = !word ? kind.sliceCount == profile->sliceCount
                           : (strtoul(word, &end, 10) == kind.id && !*end) || !strcmp(word, kind.name + 4);
        if (!meant) continue;
        result = nvmlGpuInstanceCreateComputeInstance(instance, kind.id, &made);
        break;
    }
    if (result != NVML_SUCCESS)
        printf("Unable to create a compute instance on GPU %2u GPU instance ID %2u using profile %s: %s\n", gpu->index, id,
               word ? word : "default", nvmlErrorString(result));
    need(result, "create compute instances");
    need(nvmlComputeInstanceGetInfo_v2(made, &info), "create compute instances");
    printf("Successfully created compute instance ID %2u on GPU %2u GPU instance ID %2u using profile %s (ID %2u)\n", info.id,
           gpu->index, id, kind.name, kind.id);
    done++;
}
static void create_computes(const struct smi_gpu *gpu, const smi_profile_info *profile, nvmlGpuInstance_t instance,
                            const nvmlGpuInstanceInfo_t *info)
{
    char copy[512];
    if (!asked.wanted) { create_compute(gpu, profile, instance, info->id, NULL); return; }
    snprintf(copy, sizeof copy, "%s", asked.wanted);
    for (char *rest = copy, *word; (word = strsep(&rest, ","));) create_compute(gpu, profile, instance, info->id, word);
}

/* Each word is a profile's id or name, with :START where the place matters. */
static void create_instances(const struct smi_gpu *gpu)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", asked.wanted);
    for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
        smi_profile_info profile;
        nvmlGpuInstance_t made;
        nvmlGpuInstanceInfo_t info;
        nvmlGpuInstancePlacement_t at[SMI_ROOM];
        unsigned count = 0;
        char *place = strchr(word, ':');
        if (place) *place++ = 0;
        nvmlReturn_t result = profile_named(gpu->device, word, &profile) ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS && place) {
            need(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, profile.id, NULL, &count), "create GPU instances");
            need(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, profile.id, at, &count), "create GPU instances");
            at[0].start = (unsigned)strtoul(place, NULL, 10);
            result = nvmlDeviceCreateGpuInstanceWithPlacement(gpu->device, profile.id, &at[0], &made);
        } else if (result == NVML_SUCCESS) result = nvmlDeviceCreateGpuInstance(gpu->device, profile.id, &made);
        if (result != NVML_SUCCESS)
            printf("Unable to create a GPU instance on GPU %2u using profile %s: %s\n", gpu->index, word, nvmlErrorString(result));
        need(result, "create GPU instances");
        need(nvmlGpuInstanceGetInfo(made, &info), "create GPU instances");
        printf("Successfully created GPU instance ID %2u on GPU %2u using profile %s (ID %2u)\n", info.id, gpu->index,
               profile.name, profile.id);
        done++;
        if (asked.filled) create_compute(gpu, &profile, made, info.id, NULL);
    }
}

static void list_profiles(const struct smi_gpu *gpu)
{
    smi_profile_info info;
    for (unsigned place = 0; place < PROFILES; place++) {
        unsigned room = 0;
        if (!profile_at(gpu->device, place, &info)) continue;
        need(nvmlDeviceGetGpuInstanceRemainingCapacity(gpu->device, info.id, &room), "display GPU instance profiles");
        smi_profile_row(done++ == 0, gpu->index, &info, room);
    }
}
static void list_places(const struct smi_gpu *gpu)
{
    smi_profile_info info;
    nvmlGpuInstancePlacement_t at[SMI_ROOM];
    for (unsigned place = 0; place < PROFILES; place++) {
        static const char what[] = "display GPU instance possible placements";
        unsigned count = 0;
        if (!profile_at(gpu->device, place, &info)) continue;
        need(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, info.id, NULL, &count), what);
        need(nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, info.id, at, &count), what);
        printf("GPU %2u Profile ID %2u Placement%s: {", gpu->index, info.id, count > 1 ? "s" : "");
        for (unsigned n = 0; n < count; n++) printf("%s%u", n ? "," : "", at[n].start);
        printf("}:%u\n", at[0].size);
        done++;
    }
}
static void list_instances(const struct smi_gpu *gpu) { each_instance(gpu, "display GPU instances", show_instance); }
static void list_computes(const struct smi_gpu *gpu) { each_instance(gpu, "display compute instances", show_computes); }
static void list_compute_profiles(const struct smi_gpu *gpu)
{
    each_instance(gpu, "display compute instance profiles", show_compute_profiles);
}
static void make_computes(const struct smi_gpu *gpu) { each_instance(gpu, "create compute instances", create_computes); }
static void remove_computes(const struct smi_gpu *gpu) { each_instance(gpu, "destroy compute instances", destroy_computes); }
static void remove_instances(const struct smi_gpu *gpu) { each_instance(gpu, "destroy GPU instances", destroy_instance); }

enum argument { NONE, NEEDED, OPTIONAL };
static const struct { const char *brief, *word; enum argument argument; void (*on)(const struct smi_gpu *); const char *missing; } COMMANDS[] = {
    {"-lgip", "--list-gpu-instance-profiles", NONE, list_profiles, NULL},
    {"-lgipp", "--list-gpu-instance-possible-placements", NONE, list_places, NULL},
    {"-lgi", "--list-gpu-instances", NONE, list_instances, "No GPU instances found: Not Found"},
    {"-lcip", "--list-compute-instance-profiles", NONE, list_compute_profiles, "No GPU instances found: Not Found"},
    {"-lci", "--list-compute-instances", NONE, list_computes, "No compute instances found: Not Found"},
    {"-cgi", "--create-gpu-instance", NEEDED, create_instances, NULL},
    {"-cci", "--create-compute-instance", OPTIONAL, make_computes, "No GPU instances found: Not Found"},
    {"-dci", "--destroy-compute-instance", NONE, remove_computes, "No compute instances found: Not Found"},
    {"-dgi", "--destroy-gpu-instance", NONE, remove_instances, "No GPU instances found: Not Found"},
};

static bool is(const char *word, const char *brief, const char *full) { return !strcmp(word, brief) || !strcmp(word, full); }

/* The command's number; anything that nvidia-smi does not know is misuse. */
static unsigned parse(int count, char **words)
{
    unsigned all = sizeof COMMANDS / sizeof *COMMANDS, command = all;
    for (int n = 0; n < count; n++) {
        const char *next = n + 1 < count && *words[n + 1] != '-' ? words[n + 1] : NULL;
        const char **value = is(words[n], "-i", "--id") ? &asked.gpus
                           : is(words[n], "-gi", "--gpu-instance-id") ? &asked.instances
                           : is(words[n], "-ci", "--compute-instance-id") ? &asked.computes : NULL;
        if (value) {
            if (!next) smi_misused(words[n]);
            *value = next;
            n++;
            continue;
        }
        if (is(words[n], "-C", "--default-compute-instance")) { asked.filled = true; continue; }
        unsigned known = 0;
        while (known < all && !is(words[n], COMMANDS[known].brief, COMMANDS[known].word)) known++;
        if (known == all || command != all) smi_misused(words[n]);
        command = known;
        if (COMMANDS[known].argument == NONE) continue;
        if (!next && COMMANDS[known].argument == NEEDED) smi_misused(words[n]);
        asked.wanted = next;
        n += next != NULL;
    }
    if (command == all) smi_misused("mig");
    return command;
}

int smi_mig(int count, char **words)
{
    struct smi_gpu gpus[GPUS];
    unsigned command = parse(count, words), able = 0, enabled = 0;
    unsigned found = smi_chosen(asked.gpus, gpus, GPUS);
    for (unsigned n = 0; n < found; n++) {
        unsigned current = 0, pending = 0;
        if (nvmlDeviceGetMigMode(gpus[n].device, &current, &pending) != NVML_SUCCESS) continue;
        able++;
        if (!current) continue;
        enabled++;
        COMMANDS[command].on(&gpus[n]);
    }
    const char *missing = !able ? "No MIG-supported devices found." : !enabled ? "No MIG-enabled devices found."
                        : !done ? COMMANDS[command].missing : NULL;
    if (!missing) return 0;
    printf("%s\n", missing);
    return 6;
}
