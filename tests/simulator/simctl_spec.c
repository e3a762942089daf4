/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * simctl init: a state file from a JSON specification. A small reader: objects, arrays, strings, numbers, booleans. */
#include "simctl.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader { char *at; const char *file; };
static void blanks(struct reader *in) { while (isspace((unsigned char)*in->at)) in->at++; }
static bool take(struct reader *in, char wanted)
{
    blanks(in);
    if (*in->at != wanted) return false;
    in->at++;
    return true;
}
static void need(struct reader *in, char wanted)
{
    if (!take(in, wanted)) fail("%s: '%c' is wanted before: %.20s", in->file, wanted, in->at);
}
static void scalar(struct reader *in, char *to, size_t room)
{
    size_t length = 0;
    bool quoted = take(in, '"');
    while (*in->at && (quoted ? *in->at != '"' : !strchr(",]} \t\r\n", *in->at))) {
        if (length + 1 >= room) fail("%s: a value is too long", in->file);
        to[length++] = *in->at++;
    }
    to[length] = 0;
    if (quoted) need(in, '"');
}
typedef void (*member)(struct reader *in, const char *key, void *into);
static void object(struct reader *in, member each, void *into)
{
    char key[64];
    need(in, '{');
    if (take(in, '}')) return;
    do {
        scalar(in, key, sizeof key);
        need(in, ':');
        blanks(in);
        each(in, key, into);
    } while (take(in, ','));
    need(in, '}');
}

static void gpu_member(struct reader *in, const char *key, void *into)
{
    struct sim_gpu *gpu = into;
    char value[96];
    scalar(in, value, sizeof value);
    if (!strcmp(key, "product")) {
        for (gpu->product = 0; gpu->product < sim_product_count; gpu->product++)
            if (!strcmp(sim_products[gpu->product].key, value)) return;
        fail("%s: no simulated product is called %s", in->file, value);
    } else if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%.47s", value);
    else if (!strcmp(key, "passthrough")) gpu->passthrough = !strcmp(value, "true");
    else if (!strcmp(key, "mig")) gpu->mig_current = gpu->mig_pending = !strcmp(value, "enabled");
    else fail("%s: a GPU has no %s", in->file, key);
}
static void host_member(struct reader *in, const char *key, void *into)
{
    struct sim_state *state = into;
    char value[96];
    if (!strcmp(key, "gpus")) {
        need(in, '[');
        if (take(in, ']')) return;
        do {
            if (state->gpus == SIM_GPUS) fail("%s: at most %d GPUs", in->file, SIM_GPUS);
            object(in, gpu_member, &state->gpu[state->gpus++]);
        } while (take(in, ','));
        need(in, ']');
        return;
    }
    scalar(in, value, sizeof value);
    if (!strcmp(key, "driver_version")) snprintf(state->driver_version, sizeof state->driver_version, "%.31s", value);
    else if (!strcmp(key, "cuda_version")) {
        unsigned major = 0, minor = 0;
        if (sscanf(value, "%u.%u", &major, &minor) < 1) fail("%s: cuda_version is %s", in->file, value);
        state->cuda_version = major * 1000 + minor * 10;
    } else if (!strcmp(key, "seed")) state->seed = strtoull(value, NULL, 10);
    else if (!strcmp(key, "uuids")) state->stable_uuids = !strcmp(value, "stable");
    else fail("%s: a host has no %s", in->file, key);
}

static void swap(unsigned *one, unsigned *other) { unsigned kept = *one; *one = *other; *other = kept; }

static void finish(struct sim_state *state)
{
    for (unsigned n = 0; n < state->gpus; n++) {
        struct sim_gpu *gpu = &state->gpu[n];
        uint64_t bits = sim_mixed(state->seed ^ (n + 1));
        if (gpu->mig_current && !sim_products[gpu->product].max_instances)
            fail("%s is a board without MIG", sim_products[gpu->product].key);
        gpu->bus = 7 + n * 8;
        snprintf(gpu->serial, sizeof gpu->serial, "15632210%05u", (unsigned)(bits % 100000));
        if (!*gpu->uuid)
            snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08x-%04x-%04x-%04x-%012llx", (unsigned)bits, (unsigned)(bits >> 32 & 0xffff),
                     (unsigned)(0x4000 | (bits >> 48 & 0xfff)), (unsigned)(0x8000 | (sim_mixed(bits) & 0x3fff)),
                     (unsigned long long)(sim_mixed(bits + 1) & 0xffffffffffffULL));
        for (unsigned id = 0; id < SIM_INSTANCE_IDS; id++) gpu->ids[id] = id;
        for (unsigned first = 1; first < SIM_INSTANCE_IDS; first = first * 2 + 1) /* halves, quarters, eighths */
            for (unsigned k = first; k > 0; k--) {
                bits = sim_mixed(bits);
                swap(&gpu->ids[first + k], &gpu->ids[first + bits % (k + 1)]);
            }
    }
}

void init_state(const char *name, const char *specification)
{
    static char text[65536];
    static struct sim_state state;
    char folder[PATH_MAX], log_name[PATH_MAX + 8];
    FILE *stream = fopen(specification, "re");
    if (!stream) fail("%s: %s", specification, strerror(errno));
    size_t length = fread(text, 1, sizeof text - 1, stream);
    fclose(stream);
    text[length] = 0;
    struct reader in = {text, specification};
    if (getrandom(&state.seed, sizeof state.seed, 0) < 0) fail("no random numbers");
    state.magic = SIM_MAGIC;
    state.loaded = true;
    state.pid_namespace = sim_own_pid_namespace();
    snprintf(state.driver_version, sizeof state.driver_version, "580.82.07");
    state.cuda_version = 13000;
    object(&in, host_member, &state);
    finish(&state);
    snprintf(folder, sizeof folder, "%s", name);
    for (char *slash = folder + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(folder, 0755) && errno != EEXIST) fail("%s: %s", folder, strerror(errno));
        *slash = '/';
    }
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0 || write(file, &state, sizeof state) != (ssize_t)sizeof state) fail("%s: %s", name, strerror(errno));
    fchmod(file, 0666); /* a process in a container registers itself here, as it would with the driver */
    close(file);
    snprintf(log_name, sizeof log_name, "%s.log", name);
    unlink(log_name);
}
