/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * Processes on GPUs. One in a container registers by what it knows of itself; whoever reads finds it in its own /proc. */
#include "sim.h"
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t pid_namespace(const char *process)
{
    char path[300];
    struct stat about;
    snprintf(path, sizeof path, "/proc/%s/ns/pid", process);
    return stat(path, &about) ? 0 : about.st_ino;
}

uint64_t sim_own_pid_namespace(void) { return pid_namespace("self"); }

/* Field 22 of /proc/PID/stat, in clock ticks since boot: the same in all namespaces. 0 where there is no such process. */
uint64_t sim_start_time(const char *proc, unsigned pid)
{
    char path[64], text[1024], *cursor;
    unsigned long long started = 0;
    snprintf(path, sizeof path, "%s/%u/stat", proc, pid);
    FILE *stream = fopen(path, "re");
    if (!stream) return 0;
    size_t length = fread(text, 1, sizeof text - 1, stream);
    fclose(stream);
    text[length] = 0;
    cursor = strrchr(text, ')');
    if (!cursor || cursor[1] == 0) return 0;
    char state = cursor[2];
    for (int field = 2; cursor && field < 22; field++) cursor = strchr(cursor + 1, ' ');
    if (cursor) started = strtoull(cursor + 1, NULL, 10);
    return state == 'Z' || state == 'X' ? 0 : started;
}

static unsigned innermost_pid(const char *process)
{
    char path[300], line[256];
    unsigned inner = 0;
    snprintf(path, sizeof path, "/proc/%s/status", process);
    FILE *stream = fopen(path, "re");
    if (!stream) return 0;
    while (fgets(line, sizeof line, stream))
        if (!strncmp(line, "NSpid:", 6)) {
            char *last = line + strlen(line);
            while (last > line && isspace((unsigned char)last[-1])) *--last = 0;
            char *tab = strrchr(line, '\t');
            if (tab) inner = (unsigned)strtoul(tab + 1, NULL, 10);
        }
    fclose(stream);
    return inner;
}

/* The pid under which this process's own /proc has the holder; 0 where it cannot see it. */
static unsigned seen_pid(const struct sim_hold *hold)
{
    if (hold->fixed) return hold->pid;
    if (hold->pid_namespace == sim_own_pid_namespace())
        return sim_start_time("/proc", hold->pid) == hold->started ? hold->pid : 0;
    unsigned found = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
        if (!isdigit((unsigned char)*entry->d_name) || pid_namespace(entry->d_name) != hold->pid_namespace) continue;
        unsigned pid = (unsigned)strtoul(entry->d_name, NULL, 10);
        if (innermost_pid(entry->d_name) == hold->pid && sim_start_time("/proc", pid) == hold->started) found = pid;
    }
    if (folder) closedir(folder);
    return found;
}

unsigned sim_processes(unsigned gpu, struct sim_process *found, unsigned room)
{
    unsigned count = 0;
    bool on_host = geteuid() == 0 && sim_own_pid_namespace() == sim->pid_namespace;
    for (struct sim_hold *hold = sim->hold; hold < sim->hold + SIM_HOLDS; hold++) {
        if (!hold->used || hold->gpu != gpu) continue;
        unsigned pid = seen_pid(hold);
        if (!pid) {
            if (on_host) hold->used = false; /* the host sees every process: this one is gone */
            continue;
        }
        if (count < room) {
            found[count] = (struct sim_process){pid, gpu, hold->instance, hold->compute, ""};
            memcpy(found[count].name, hold->name, sizeof hold->name);
        }
        count++;
    }
    return count;
}

bool sim_busy(unsigned gpu, unsigned instance, unsigned compute)
{
    struct sim_process found[SIM_HOLDS];
    unsigned count = sim_processes(gpu, found, SIM_HOLDS);
    for (unsigned n = 0; n < count; n++)
        if ((instance == SIM_NONE || found[n].instance == instance) && (compute == SIM_NONE || found[n].compute == compute))
            return true;
    return false;
}
