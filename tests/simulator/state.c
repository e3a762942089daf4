/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * The state file, its lock, its log, and the frame of each call: faults, delays, permissions. */
#include "sim.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct sim_state *sim;
bool sim_is_host;
static int file = -1, log_file = -1;
static char path[PATH_MAX];
static unsigned users;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
enum { LOG_LIMIT = 32 << 20 }; /* reads are not logged beyond: a host may run for days */

const char *sim_state_path(void)
{
    const char *given = getenv("NVML_SIM_STATE");
    Dl_info own;
    sim_is_host = false;
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
        return path;
    }
    if (dladdr((void *)sim_state_path, &own) && own.dli_fname && strrchr(own.dli_fname, '/')) {
        int length = (int)(strrchr(own.dli_fname, '/') - own.dli_fname);
        snprintf(path, sizeof path, "%.*s/nvml-sim.state", length, own.dli_fname);
        if (access(path, F_OK) == 0) return path;
    }
    sim_is_host = true;
    snprintf(path, sizeof path, SIM_DEFAULT_STATE);
    return path;
}

int sim_open(const char *name)
{
    struct stat about;
    char log_name[PATH_MAX + 8];
    if (sim) return 0;
    file = open(name, O_RDWR | O_CLOEXEC);
    if (file < 0) return errno;
    if (fstat(file, &about) || (size_t)about.st_size != sizeof *sim) { close(file); file = -1; return EINVAL; }
    sim = mmap(NULL, sizeof *sim, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (sim == MAP_FAILED) { sim = NULL; close(file); file = -1; return errno; }
    if (sim->magic != SIM_MAGIC) { sim_close(); return EINVAL; }
    snprintf(log_name, sizeof log_name, "%s.log", name);
    log_file = open(log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log_file >= 0) fchmod(log_file, 0666);
    return 0;
}

void sim_close(void)
{
    if (sim) munmap(sim, sizeof *sim);
    if (file >= 0) close(file);
    if (log_file >= 0) close(log_file);
    sim = NULL;
    file = log_file = -1;
}

void sim_lock(void) { pthread_mutex_lock(&mutex); while (flock(file, LOCK_EX) && errno == EINTR) continue; }
void sim_unlock(void) { flock(file, LOCK_UN); pthread_mutex_unlock(&mutex); }

static void wait_ms(unsigned ms) { if (ms) usleep(ms * 1000); }

static struct sim_fault *due_fault(const struct sim_call *call)
{
    struct sim_fault *due = NULL;
    for (struct sim_fault *fault = sim->fault; fault < sim->fault + SIM_FAULTS; fault++) {
        if (!fault->used || (fault->gpu >= 0 && fault->gpu != call->gpu)) continue;
        bool any_write = !strcmp(fault->function, "writes") && (call->flags & SIM_WRITES);
        if (!any_write && strcmp(fault->function, call->function)) continue;
        fault->seen++;
        if (!due && fault->seen >= fault->from && fault->seen <= fault->to) due = fault;
    }
    return due;
}

nvmlReturn_t sim_begin(struct sim_call *call)
{
    if (!users) { pthread_mutex_lock(&mutex); call->function = NULL; return NVML_ERROR_UNINITIALIZED; }
    sim_lock();
    if (!sim->loaded) return NVML_ERROR_DRIVER_NOT_LOADED;
    call->fault = due_fault(call);
    if (call->fault && !call->fault->after) {
        if (call->fault->kill) kill(getpid(), SIGKILL);
        if (call->fault->code) return call->fault->code;
    }
    if (call->gpu >= 0 && sim->gpu[call->gpu].lost) return NVML_ERROR_GPU_IS_LOST;
    if ((call->flags & SIM_PRIVILEGED) && geteuid() != 0) return NVML_ERROR_NO_PERMISSION;
    return NVML_SUCCESS;
}

nvmlReturn_t sim_end(struct sim_call *call, nvmlReturn_t result)
{
    char line[320];
    unsigned delay = 0;
    if (!call->function) { pthread_mutex_unlock(&mutex); return result; }
    if (call->fault) {
        delay = call->fault->delay_ms;
        if (call->fault->after && result == NVML_SUCCESS) {
            if (call->fault->kill) kill(getpid(), SIGKILL);
            if (call->fault->code) result = call->fault->code;
        }
    }
    if (call->gpu >= 0 && (call->flags & SIM_WRITES)) delay += sim->gpu[call->gpu].delay_ms;
    int length = snprintf(line, sizeof line, "%llu %s pid=%d %s gpu=%d %s-> %d\n", (unsigned long long)++sim->sequence,
                          call->flags & SIM_WRITES ? "W" : "R", getpid(), call->function, call->gpu, call->detail, result);
    if (log_file >= 0 && ((call->flags & SIM_WRITES) || lseek(log_file, 0, SEEK_END) < LOG_LIMIT))
        if (write(log_file, line, (size_t)length) < 0) { /* a full disk must not fail the call */ }
    sim_unlock();
    wait_ms(delay); /* outside the lock: callers on different GPUs do not wait for each other */
    return result;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    nvmlReturn_t result = NVML_SUCCESS;
    (void)flags;
    pthread_mutex_lock(&mutex);
    if (!users && sim_open(sim_state_path())) result = NVML_ERROR_DRIVER_NOT_LOADED;
    if (!users && sim) {
        bool shut = sim_is_host && access("/dev/nvidiactl", F_OK) == 0;
        if (shut) {
            int node = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
            shut = node < 0 && errno != ENXIO && errno != ENODEV;
            if (node >= 0) close(node);
        } else shut = sim_is_host;
        if (shut || !sim->loaded) { sim_close(); result = NVML_ERROR_DRIVER_NOT_LOADED; }
    }
    if (result == NVML_SUCCESS) users++;
    pthread_mutex_unlock(&mutex);
    return result;
}
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = NVML_ERROR_UNINITIALIZED;
    pthread_mutex_lock(&mutex);
    if (users) {
        result = NVML_SUCCESS;
        if (!--users) sim_close();
    }
    pthread_mutex_unlock(&mutex);
    return result;
}
