/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * simctl: make a simulated host, break it, and read what was called. */
#include "simctl.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "simctl [--state FILE] COMMAND\n"
    "  init SPEC.json            a fresh host\n"
    "  files ROOT                host files beside the library, under ROOT\n"
    "  show                      GPUs, instances, processes\n"
    "  reboot | reset GPU... | driver load|unload\n"
    "  busy GPU [--gi N] [--ci N] [--pid P] [--name NAME] | idle GPU\n"
    "  lose GPU | find GPU | xid GPU CODE | passthrough GPU on|off\n"
    "  delay GPU MS              each writing call on the GPU takes so much longer\n"
    "  fault FUNCTION|writes [--gpu N] [--calls K[-L]] [--return CODE] [--delay MS] [--after] [--kill]\n"
    "  clear-faults | uuids new|stable\n"
    "  log [--writes] | clear-log\n";

_Noreturn void fail(const char *format, ...)
{
    va_list more;
    va_start(more, format);
    fputs("simctl: ", stderr);
    vfprintf(stderr, format, more);
    fputc('\n', stderr);
    va_end(more);
    exit(1);
}

static const char *option(char **words, const char *name, const char *otherwise)
{
    for (; *words; words++)
        if (!strcmp(*words, name)) return words[1] ? words[1] : otherwise;
    return otherwise;
}
static bool given(char **words, const char *name)
{
    for (; *words; words++)
        if (!strcmp(*words, name)) return true;
    return false;
}
static unsigned gpu_number(char **words)
{
    unsigned gpu = words[1] ? (unsigned)strtoul(words[1], NULL, 10) : SIM_GPUS;
    if (gpu >= sim->gpus) fail("%s: which GPU? There are %u", words[0], sim->gpus);
    return gpu;
}

static void show(void)
{
    static const char *const modes[] = {"disabled", "enabled"};
    printf("driver %s %s\n", sim->driver_version, sim->loaded ? "loaded" : "not loaded");
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        struct sim_gpu *one = &sim->gpu[gpu];
        printf("gpu %u %s %s mig=%s pending=%s%s%s\n", gpu, sim_product(gpu)->key, one->uuid, modes[one->mig_current],
               modes[one->mig_pending], one->passthrough ? " passthrough" : "", one->lost ? " lost" : "");
        for (struct sim_instance *gi = one->instance; gi < one->instance + SIM_INSTANCES; gi++) {
            if (!gi->used) continue;
            printf("  gi %u %s start=%u size=%u\n", gi->id, sim_profile_by_id(gpu, gi->profile_id)->name, gi->start, gi->size);
            for (struct sim_compute *ci = gi->compute; ci < gi->compute + SIM_COMPUTE; ci++)
                if (ci->used) printf("    ci %u start=%u size=%u %s\n", ci->id, ci->start, ci->size, ci->uuid);
        }
        struct sim_process found[SIM_HOLDS];
        unsigned count = sim_processes(gpu, found, SIM_HOLDS);
        for (unsigned n = 0; n < count; n++)
            printf("  process %u %s gi=%d ci=%d\n", found[n].pid, found[n].name, (int)found[n].instance, (int)found[n].compute);
    }
}

static void busy(char **words)
{
    struct sim_hold *hold = sim->hold;
    unsigned gpu = gpu_number(words);
    while (hold < sim->hold + SIM_HOLDS && hold->used) hold++;
    if (hold == sim->hold + SIM_HOLDS) fail("no room for another process");
    memset(hold, 0, sizeof *hold);
    hold->gpu = gpu;
    hold->instance = (unsigned)strtol(option(words, "--gi", "-1"), NULL, 10);
    hold->compute = (unsigned)strtol(option(words, "--ci", hold->instance == SIM_NONE ? "-1" : "0"), NULL, 10);
    hold->pid = (unsigned)strtoul(option(words, "--pid", "4242"), NULL, 10);
    hold->fixed = hold->used = true;
    snprintf(hold->name, sizeof hold->name, "%s", option(words, "--name", "python3"));
}
static void fault(char **words)
{
    struct sim_fault *one = sim->fault;
    const char *calls = option(words, "--calls", "1"), *dash = strchr(calls, '-');
    if (!words[1]) fail("fault: of which function?");
    while (one < sim->fault + SIM_FAULTS && one->used) one++;
    if (one == sim->fault + SIM_FAULTS) fail("no room for another fault");
    memset(one, 0, sizeof *one);
    snprintf(one->function, sizeof one->function, "%s", words[1]);
    one->gpu = (int)strtol(option(words, "--gpu", "-1"), NULL, 10);
    one->from = (unsigned)strtoul(calls, NULL, 10);
    one->to = !dash ? one->from : dash[1] ? (unsigned)strtoul(dash + 1, NULL, 10) : UINT_MAX;
    one->code = (int)strtol(option(words, "--return", "0"), NULL, 10);
    one->delay_ms = (unsigned)strtoul(option(words, "--delay", "0"), NULL, 10);
    one->after = given(words, "--after");
    one->kill = given(words, "--kill");
    one->used = true;
}

static void show_log(const char *state, bool writes)
{
    char name[PATH_MAX], line[512];
    snprintf(name, sizeof name, "%s.log", state);
    FILE *stream = fopen(name, "re");
    while (stream && fgets(line, sizeof line, stream))
        if (!writes || strstr(line, " W pid=")) fputs(line, stdout);
    if (stream) fclose(stream);
}

static bool on_gpu(char **words)
{
    const char *command = words[0];
    if (!strcmp(command, "busy")) busy(words);
    else if (!strcmp(command, "idle")) {
        unsigned gpu = gpu_number(words);
        for (struct sim_hold *hold = sim->hold; hold < sim->hold + SIM_HOLDS; hold++)
            if (hold->gpu == gpu) hold->used = false;
    } else if (!strcmp(command, "lose")) sim->gpu[gpu_number(words)].lost = true;
    else if (!strcmp(command, "find")) sim->gpu[gpu_number(words)].lost = false;
    else if (!strcmp(command, "passthrough")) sim->gpu[gpu_number(words)].passthrough = words[2] && !strcmp(words[2], "on");
    else if (!strcmp(command, "delay")) sim->gpu[gpu_number(words)].delay_ms = words[2] ? (unsigned)strtoul(words[2], NULL, 10) : 0;
    else if (!strcmp(command, "xid")) {
        sim->xid[sim->xids % SIM_XIDS].gpu = gpu_number(words);
        sim->xid[sim->xids % SIM_XIDS].code = words[2] ? strtoull(words[2], NULL, 10) : 0;
        sim->xids++;
    } else if (!strcmp(command, "reset")) {
        for (char **word = words; word[1]; word++) sim_reset_gpu(gpu_number(word));
    } else return false;
    return true;
}

int main(int count, char **words)
{
    const char *state = NULL;
    if (count > 2 && !strcmp(words[1], "--state")) {
        setenv("NVML_SIM_STATE", words[2], 1);
        words += 2;
    }
    words++;
    if (!*words) fail("%s", USAGE);
    state = sim_state_path();
    if (!strcmp(words[0], "init")) {
        if (!words[1]) fail("init: from which file?");
        init_state(state, words[1]);
        return 0;
    }
    if (!strcmp(words[0], "log")) { show_log(state, given(words, "--writes")); return 0; }
    int error = sim_open(state);
    if (error) fail("%s: %s", state, strerror(error));
    sim_is_host = !strcmp(state, SIM_DEFAULT_STATE);
    sim_lock();
    const char *command = words[0];
    if (!strcmp(command, "files") && words[1]) write_files(words[1]);
    else if (!strcmp(command, "show")) show();
    else if (!strcmp(command, "reboot")) { sim_reboot(); sim->pid_namespace = sim_own_pid_namespace(); }
    else if (!strcmp(command, "driver") && words[1]) sim_driver(!strcmp(words[1], "load"));
    else if (!strcmp(command, "fault")) fault(words);
    else if (!strcmp(command, "clear-faults")) memset(sim->fault, 0, sizeof sim->fault);
    else if (!strcmp(command, "uuids") && words[1]) sim->stable_uuids = !strcmp(words[1], "stable");
    else if (!strcmp(command, "clear-log")) {
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s.log", state);
        if (truncate(name, 0) && errno != ENOENT) fail("%s: %s", name, strerror(errno));
    } else if (!on_gpu(words)) { sim_unlock(); fail("%s", USAGE); }
    sim_unlock();
    sim_close();
    return 0;
}
