/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * The simulated driver: one state file for all processes of a host, and how a call of NVML works on it. */
#ifndef GPUFLEET_SIM_H
#define GPUFLEET_SIM_H

#include <nvml.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SIM_GPUS = 16, SIM_INSTANCES = 12, SIM_COMPUTE = 8, SIM_HOLDS = 256, SIM_FAULTS = 64, SIM_XIDS = 64,
    SIM_AMPERE = 7, SIM_HOPPER = 9, SIM_MINORS_PER_INSTANCE = 9, SIM_INSTANCE_IDS = 15,
};
#define SIM_MAGIC 0x47504653494d0003ULL
#define SIM_DEFAULT_STATE "/proc/driver/nvidia-sim/state"
#define SIM_NONE 0xFFFFFFFFu /* how NVML says "no instance" of a process */

/* What the facts say of a board; generated tables. Sizes and starts of GPU instances are memory slices. */
struct sim_compute_profile { unsigned id, index, slices, count, multiprocessors; };
struct sim_profile {
    const char *name;
    unsigned index, id, slices, count, multiprocessors, memory_mib, copy, decoders, encoders, jpeg, ofa, size, places;
    unsigned starts[12], computes;
    struct sim_compute_profile compute[5];
};
struct sim_product {
    const char *key, *name;
    unsigned pci_id, architecture, major, minor, memory_mib, memory_slices, max_instances, needs_reset, profiles;
    struct sim_profile profile[20];
};
extern const struct sim_product sim_products[];
extern const unsigned sim_product_count;

struct sim_compute { bool used; unsigned id, profile_id, start, size; char uuid[48]; };
struct sim_instance {
    bool used;
    unsigned id, profile_id, start, size;
    uint32_t serial; /* tells a re-created instance from the one that an old handle means */
    struct sim_compute compute[SIM_COMPUTE];
};
struct sim_gpu {
    unsigned product, bus;
    char uuid[48], serial[24];
    bool mig_current, mig_pending, passthrough, lost;
    unsigned delay_ms, ids[SIM_INSTANCE_IDS]; /* tree id of each place: differs between GPUs by floorsweeping */
    struct sim_instance instance[SIM_INSTANCES];
};
/* A process on a GPU or instance. A pid of another pid namespace is found again by (namespace, pid in there, start). */
struct sim_hold {
    bool used, fixed; /* fixed: set by simctl, stays until it is taken back */
    unsigned gpu, instance, compute, pid;
    uint64_t pid_namespace, started;
    char name[64];
};
struct sim_fault {
    bool used, after, kill;
    char function[80];
    int gpu, code;
    unsigned from, to, seen, delay_ms;
};
struct sim_state {
    uint64_t magic, sequence, seed, pid_namespace, xids;
    bool loaded, stable_uuids;
    char driver_version[32];
    unsigned cuda_version, gpus, caps_major;
    uint32_t serial;
    struct sim_gpu gpu[SIM_GPUS];
    struct sim_hold hold[SIM_HOLDS];
    struct sim_fault fault[SIM_FAULTS];
    struct { unsigned gpu; uint64_t code; } xid[SIM_XIDS];
};

/* state.c */
extern struct sim_state *sim; /* valid between sim_lock and sim_unlock */
extern bool sim_is_host;      /* the state was found where a simulated host has it: device nodes count */
const char *sim_state_path(void);
int sim_open(const char *path); /* 0, or errno */
void sim_close(void);
void sim_lock(void);
void sim_unlock(void);

enum { SIM_PRIVILEGED = 1, SIM_WRITES = 2 };
struct sim_call { const char *function; int gpu; unsigned flags; struct sim_fault *fault; char detail[120]; };
nvmlReturn_t sim_begin(struct sim_call *call); /* locks; anything but SUCCESS is the call's answer */
nvmlReturn_t sim_end(struct sim_call *call, nvmlReturn_t result);
#define ENTER(on_gpu, with_flags) \
    struct sim_call call = {__func__, on_gpu, with_flags, NULL, ""}; \
    do { nvmlReturn_t begun = sim_begin(&call); if (begun != NVML_SUCCESS) return sim_end(&call, begun); } while (0)
#define LEAVE(result) return sim_end(&call, (result))
#define NEED(condition, code) do { if (!(condition)) LEAVE(code); } while (0)
#define DETAIL(...) snprintf(call.detail, sizeof call.detail, __VA_ARGS__)

/* board.c: the rules of one GPU, under the lock */
uint64_t sim_mixed(uint64_t value); /* the same spread-out bits for the same value */
const struct sim_product *sim_product(unsigned gpu);
const struct sim_profile *sim_profile_by_id(unsigned gpu, unsigned id);
const struct sim_profile *sim_profile_by_index(unsigned gpu, unsigned index);
const struct sim_compute_profile *sim_compute_profile(const struct sim_profile *profile, unsigned id);
unsigned sim_numa_node(unsigned gpu); /* two sockets, as in an HGX or DGX */
bool sim_mig_capable(unsigned gpu);
bool sim_place_free(unsigned gpu, unsigned start, unsigned size);
unsigned sim_instance_room(unsigned gpu, const struct sim_profile *profile);
unsigned sim_instance_place(unsigned gpu, const struct sim_profile *profile); /* SIM_NONE: there is none */
nvmlReturn_t sim_instance_create(unsigned gpu, const struct sim_profile *profile, unsigned start, struct sim_instance **made);
struct sim_instance *sim_instance_by_id(unsigned gpu, unsigned id);
bool sim_compute_free(const struct sim_instance *instance, unsigned start, unsigned size);
unsigned sim_compute_places(const struct sim_profile *profile, unsigned slices, unsigned *starts);
unsigned sim_compute_size(unsigned gpu, const struct sim_profile *profile, const struct sim_compute_profile *kind);
unsigned sim_compute_room(const struct sim_profile *profile, const struct sim_instance *instance,
                          const struct sim_compute_profile *kind);
nvmlReturn_t sim_compute_create(unsigned gpu, struct sim_instance *instance, const struct sim_compute_profile *kind,
                                unsigned start, struct sim_compute **made);
void sim_instance_remove(unsigned gpu, struct sim_instance *instance);
void sim_compute_remove(unsigned gpu, struct sim_instance *instance, struct sim_compute *compute);
void sim_clear_instances(unsigned gpu);
void sim_reset_gpu(unsigned gpu);
void sim_reboot(void);
void sim_driver(bool load);
bool sim_gpu_visible(unsigned gpu);
bool sim_compute_visible(unsigned gpu, unsigned instance, unsigned compute);
unsigned sim_minor(unsigned gpu, unsigned instance, int compute); /* compute -1: of the GPU instance itself */

/* processes.c */
struct sim_process { unsigned pid, gpu, instance, compute; char name[64]; };
unsigned sim_processes(unsigned gpu, struct sim_process *found, unsigned room);
bool sim_busy(unsigned gpu, unsigned instance, unsigned compute); /* SIM_NONE: any */
uint64_t sim_own_pid_namespace(void);
uint64_t sim_start_time(const char *proc, unsigned pid);

/* Beyond NVML, for nvidia-smi and gpu-holder. Exported by the library; answers are NVML's. */
nvmlReturn_t simReset(const unsigned *indices, unsigned count);
nvmlReturn_t simHold(const char *uuid, const char *name);
nvmlReturn_t simRelease(void);
#endif
