/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * What one GPU lets itself be cut into, and what a reset or a reboot leaves of it. Callers hold the lock. */
#include "sim.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const struct sim_product sim_products[] = {
#include "products.inc"
};
const unsigned sim_product_count = sizeof sim_products / sizeof *sim_products;

const struct sim_product *sim_product(unsigned gpu) { return &sim_products[sim->gpu[gpu].product]; }
unsigned sim_numa_node(unsigned gpu) { return gpu < 4 ? 0 : 1; }
bool sim_mig_capable(unsigned gpu) { return sim_product(gpu)->max_instances > 0; }

const struct sim_profile *sim_profile_by_id(unsigned gpu, unsigned id)
{
    const struct sim_product *product = sim_product(gpu);
    for (unsigned n = 0; n < product->profiles; n++)
        if (product->profile[n].id == id) return &product->profile[n];
    return NULL;
}

const struct sim_profile *sim_profile_by_index(unsigned gpu, unsigned index)
{
    const struct sim_product *product = sim_product(gpu);
    for (unsigned n = 0; n < product->profiles; n++)
        if (product->profile[n].index == index) return &product->profile[n];
    return NULL;
}

/* The 1g profile of double memory is listed with compute profile id 7, while NVIDIA's own tools ask for 0 there. */
const struct sim_compute_profile *sim_compute_profile(const struct sim_profile *profile, unsigned id)
{
    for (unsigned n = 0; n < profile->computes; n++) {
        const struct sim_compute_profile *kind = &profile->compute[n];
        if (kind->id == id || (kind->id == 7 && id == 0)) return kind;
    }
    return NULL;
}

bool sim_place_free(unsigned gpu, unsigned start, unsigned size)
{
    for (struct sim_instance *one = sim->gpu[gpu].instance; one < sim->gpu[gpu].instance + SIM_INSTANCES; one++)
        if (one->used && start < one->start + one->size && one->start < start + size) return false;
    return true;
}

static unsigned count_of(unsigned gpu, unsigned profile_id)
{
    unsigned count = 0;
    for (unsigned n = 0; n < SIM_INSTANCES; n++)
        count += sim->gpu[gpu].instance[n].used && sim->gpu[gpu].instance[n].profile_id == profile_id;
    return count;
}

/* Media extensions exist once; +me.all takes all engines, so that only -me profiles can stand beside it. */
static bool media_allow(unsigned gpu, const struct sim_profile *wanted)
{
    bool wants = strstr(wanted->name, "+me"), wants_all = strstr(wanted->name, "+me.all");
    bool plain = !strstr(wanted->name, "-me");
    for (unsigned n = 0; n < SIM_INSTANCES; n++) {
        if (!sim->gpu[gpu].instance[n].used) continue;
        const char *there = sim_profile_by_id(gpu, sim->gpu[gpu].instance[n].profile_id)->name;
        if (wants && strstr(there, "+me")) return false;
        if (plain && strstr(there, "+me.all")) return false;
        if (wants_all && !strstr(there, "-me")) return false;
    }
    return true;
}

/* How many more of a profile can be made now: disjoint free places, and the profile's own limit. */
unsigned sim_instance_room(unsigned gpu, const struct sim_profile *profile)
{
    unsigned room = 0, end = 0, there = count_of(gpu, profile->id);
    if (!media_allow(gpu, profile)) return 0;
    for (unsigned n = 0; n < profile->places; n++)
        if (profile->starts[n] >= end && sim_place_free(gpu, profile->starts[n], profile->size)) {
            room++;
            end = profile->starts[n] + profile->size;
        }
    unsigned left = profile->count > there ? profile->count - there : 0;
    return room < left ? room : left;
}

/* GI ids are numbers of a tree: 0 the whole, 1-2 halves, 3-6 quarters, 7-14 eighths, mixed per physical GPU. */
static unsigned tree_id(unsigned gpu, unsigned start, unsigned size)
{
    unsigned slices = sim_product(gpu)->memory_slices, parts = 1;
    while (parts * size < slices) parts *= 2;
    unsigned place = start * parts / slices;
    return sim->gpu[gpu].ids[parts - 1 + place];
}

static void random_uuid(char *text, const char *prefix, uint64_t high, uint64_t low)
{
    snprintf(text, 48, "%s%08x-%04x-%04x-%04x-%012llx", prefix, (unsigned)(high >> 32), (unsigned)(high >> 16 & 0xffff),
             (unsigned)(0x5000 | (high & 0xfff)), (unsigned)(0x8000 | (low >> 48 & 0x3fff)),
             (unsigned long long)(low & 0xffffffffffffULL));
}

uint64_t sim_mixed(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ULL; /* splitmix64 */
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

static void mig_uuid(unsigned gpu, const struct sim_instance *instance, struct sim_compute *compute)
{
    uint64_t bits[2];
    if (sim->stable_uuids) { /* the same place gets the same UUID, as NVIDIA's published listings show */
        bits[0] = sim_mixed(sim->seed ^ (gpu + 1) * 0x1001ULL);
        bits[0] = sim_mixed(bits[0] ^ instance->profile_id << 24 ^ instance->start << 16 ^ compute->profile_id << 8 ^ compute->start);
        bits[1] = sim_mixed(bits[0]);
    } else if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        bits[0] = sim_mixed(sim->seed + sim->sequence);
        bits[1] = sim_mixed(bits[0]);
    }
    random_uuid(compute->uuid, "MIG-", bits[0], bits[1]);
}

unsigned sim_minor(unsigned gpu, unsigned instance, int compute)
{
    return 3 + gpu * SIM_INSTANCE_IDS * SIM_MINORS_PER_INSTANCE + instance * SIM_MINORS_PER_INSTANCE + (unsigned)(compute + 1);
}

/* On a simulated host the driver's device nodes come and go with the instances. In a container this fails: rightly. */
static void node(unsigned minor, bool there)
{
    char path[64];
    if (!sim_is_host || !sim->caps_major) return;
    snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", minor);
    if (!there) unlink(path);
    else if (mknod(path, S_IFCHR | 0444, makedev(sim->caps_major, minor)) == 0) chmod(path, 0444);
}

/* Places, of all profiles, that an instance there would take from what is free now. */
static unsigned taken_by(unsigned gpu, unsigned start, unsigned size)
{
    const struct sim_product *product = sim_product(gpu);
    unsigned count = 0;
    for (const struct sim_profile *one = product->profile; one < product->profile + product->profiles; one++)
        for (unsigned n = 0; n < one->places; n++)
            count += sim_place_free(gpu, one->starts[n], one->size) && one->starts[n] < start + size && start < one->starts[n] + one->size;
    return count;
}

/* Where the driver puts an instance without a given place: where it takes least from other profiles, the lowest of equal
 * places. So published listings have it: seven 1g of an H100 at 6, 4, 5, 0, 1, 2, 3; 3g, 1g, 2g, 1g of an A100 at 4, 0, 2, 1. */
unsigned sim_instance_place(unsigned gpu, const struct sim_profile *profile)
{
    unsigned best = SIM_NONE, least = 0;
    for (unsigned n = 0; n < profile->places; n++) {
        if (!sim_place_free(gpu, profile->starts[n], profile->size)) continue;
        unsigned taken = taken_by(gpu, profile->starts[n], profile->size);
        if (best != SIM_NONE && taken >= least) continue;
        best = profile->starts[n];
        least = taken;
    }
    return best;
}

nvmlReturn_t sim_instance_create(unsigned gpu, const struct sim_profile *profile, unsigned start, struct sim_instance **made)
{
    bool known = false;
    for (unsigned n = 0; n < profile->places; n++) known |= profile->starts[n] == start;
    if (!known) return NVML_ERROR_INVALID_ARGUMENT;
    if (!sim_place_free(gpu, start, profile->size) || count_of(gpu, profile->id) >= profile->count || !media_allow(gpu, profile))
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    for (struct sim_instance *one = sim->gpu[gpu].instance; one < sim->gpu[gpu].instance + SIM_INSTANCES; one++) {
        if (one->used) continue;
        memset(one, 0, sizeof *one);
        one->used = true;
        one->profile_id = profile->id;
        one->start = start;
        one->size = profile->size;
        one->id = tree_id(gpu, start, profile->size);
        one->serial = ++sim->serial;
        node(sim_minor(gpu, one->id, -1), true);
        *made = one;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

struct sim_instance *sim_instance_by_id(unsigned gpu, unsigned id)
{
    for (struct sim_instance *one = sim->gpu[gpu].instance; one < sim->gpu[gpu].instance + SIM_INSTANCES; one++)
        if (one->used && one->id == id) return one;
    return NULL;
}

bool sim_compute_free(const struct sim_instance *instance, unsigned start, unsigned size)
{
    for (const struct sim_compute *one = instance->compute; one < instance->compute + SIM_COMPUTE; one++)
        if (one->used && start < one->start + one->size && one->start < start + size) return false;
    return true;
}

/* No capture shows the places of compute instances; aligned ones agree with every count that captures show. */
unsigned sim_compute_places(const struct sim_profile *profile, unsigned slices, unsigned *starts)
{
    unsigned step = 1, count = 0;
    while (step < slices) step *= 2;
    for (unsigned start = 0; start + slices <= profile->slices; start += step) starts[count++] = start;
    return count;
}

/* Listings of H100 give the compute instance that fills a 3g the place 0:4, those of A100 0:3. Others were not seen. */
unsigned sim_compute_size(unsigned gpu, const struct sim_profile *profile, const struct sim_compute_profile *kind)
{
    bool wide = sim_product(gpu)->architecture >= SIM_HOPPER && profile->slices == 3 && kind->slices == 3;
    return wide ? 4 : kind->slices;
}

unsigned sim_compute_room(const struct sim_profile *profile, const struct sim_instance *instance,
                          const struct sim_compute_profile *kind)
{
    unsigned starts[8], room = 0, places = sim_compute_places(profile, kind->slices, starts);
    for (unsigned n = 0; n < places; n++) room += sim_compute_free(instance, starts[n], kind->slices);
    return room < kind->count ? room : kind->count;
}

nvmlReturn_t sim_compute_create(unsigned gpu, struct sim_instance *instance, const struct sim_compute_profile *kind,
                                unsigned start, struct sim_compute **made)
{
    const struct sim_profile *profile = sim_profile_by_id(gpu, instance->profile_id);
    unsigned starts[8], places = sim_compute_places(profile, kind->slices, starts);
    bool known = false;
    for (unsigned n = 0; n < places; n++) known |= starts[n] == start;
    if (!known) return NVML_ERROR_INVALID_ARGUMENT;
    if (!sim_compute_free(instance, start, kind->slices)) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    for (unsigned id = 0; id < SIM_COMPUTE; id++) {
        struct sim_compute *one = &instance->compute[id];
        if (one->used) continue;
        memset(one, 0, sizeof *one);
        one->used = true;
        one->id = id;
        one->profile_id = kind->id;
        one->start = start;
        one->size = sim_compute_size(gpu, profile, kind);
        mig_uuid(gpu, instance, one);
        node(sim_minor(gpu, instance->id, (int)id), true);
        *made = one;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

void sim_compute_remove(unsigned gpu, struct sim_instance *instance, struct sim_compute *compute)
{
    node(sim_minor(gpu, instance->id, (int)compute->id), false);
    compute->used = false;
}

void sim_instance_remove(unsigned gpu, struct sim_instance *instance)
{
    for (unsigned n = 0; n < SIM_COMPUTE; n++)
        if (instance->compute[n].used) sim_compute_remove(gpu, instance, &instance->compute[n]);
    node(sim_minor(gpu, instance->id, -1), false);
    instance->used = false;
}

void sim_clear_instances(unsigned gpu)
{
    for (unsigned n = 0; n < SIM_INSTANCES; n++)
        if (sim->gpu[gpu].instance[n].used) sim_instance_remove(gpu, &sim->gpu[gpu].instance[n]);
}

void sim_reset_gpu(unsigned gpu)
{
    sim_clear_instances(gpu);
    sim->gpu[gpu].mig_current = sim->gpu[gpu].mig_pending;
    sim->gpu[gpu].lost = false;
}

/* Ampere keeps the mode in the board; Hopper and newer have it only while the kernel module is loaded. */
static void lose_module(void)
{
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        if (!sim_product(gpu)->needs_reset) sim->gpu[gpu].mig_pending = false;
        sim_reset_gpu(gpu);
    }
}

void sim_reboot(void)
{
    lose_module();
    memset(sim->hold, 0, sizeof sim->hold);
    sim->loaded = true;
}

void sim_driver(bool load)
{
    if (!load) lose_module();
    sim->loaded = load;
}

/* Allowed means that the device group lets it be opened; a node without a driver then gives ENXIO. */
static bool opens(const char *path)
{
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle >= 0) close(handle);
    return handle >= 0 || errno == ENXIO || errno == ENODEV;
}

bool sim_gpu_visible(unsigned gpu)
{
    char path[64];
    if (!sim_is_host || access("/dev/nvidiactl", F_OK)) return true;
    snprintf(path, sizeof path, "/dev/nvidia%u", gpu);
    return opens(path);
}

static bool cap_opens(unsigned minor)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", minor);
    return opens(path);
}

bool sim_compute_visible(unsigned gpu, unsigned instance, unsigned compute)
{
    if (!sim_is_host || access("/dev/nvidiactl", F_OK) || cap_opens(2)) return true; /* 2: monitor */
    return cap_opens(sim_minor(gpu, instance, -1)) && cap_opens(sim_minor(gpu, instance, (int)compute));
}
