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
    "  reboot | reset GPU... | driver load|unload [VERSION]\n"
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

/* The command line is not what the usage says: exit code 2. */
static _Noreturn void misused(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void misused(const char *format, ...)
{
    va_list more;
    va_start(more, format);
    fputs("simctl: ", stderr);
    vfprintf(stderr, format, more);
    fprintf(stderr, "\n%s", USAGE);
    va_end(more);
    exit(2);
}

/* Each command with the number of words that follow it and the options that it knows: * before the name of one without
 * a value. */
static const struct command { const char *name; unsigned least, most; const char *options[8]; } COMMANDS[] = {
    {"init", 1, 1, {0}}, {"files", 1, 1, {0}}, {"show", 0, 0, {0}}, {"reboot", 0, 0, {0}}, {"reset", 1, SIM_GPUS, {0}},
    {"driver", 1, 2, {0}}, {"busy", 1, 1, {"--gi", "--ci", "--pid", "--name"}}, {"idle", 1, 1, {0}}, {"lose", 1, 1, {0}},
    {"find", 1, 1, {0}}, {"xid", 2, 2, {0}}, {"passthrough", 2, 2, {0}}, {"delay", 2, 2, {0}},
    {"fault", 1, 1, {"--gpu", "--calls", "--return", "--delay", "*--after", "*--kill"}}, {"clear-faults", 0, 0, {0}},
    {"uuids", 1, 1, {0}}, {"log", 0, 0, {"*--writes"}}, {"clear-log", 0, 0, {0}},
};

static void check(char **words)
{
    const struct command *command = COMMANDS, *end = COMMANDS + sizeof COMMANDS / sizeof *COMMANDS;
    unsigned count = 0;
    while (command < end && strcmp(command->name, words[0])) command++;
    if (command == end) misused("there is no command %s", words[0]);
    for (char **word = words + 1; *word; word++) {
        if (strncmp(*word, "--", 2)) { count++; continue; }
        const char *const *known = command->options;
        while (*known && strcmp(**known == '*' ? *known + 1 : *known, *word)) known++;
        if (!*known) misused("%s has no option %s", words[0], *word);
        if (**known == '*') continue;
        if (!word[1]) misused("%s %s needs a value", words[0], *word);
        word++;
    }
    if (count < command->least || count > command->most) misused("%s: too %s words", words[0], count < command->least ? "few" : "many");
}

static long number(const char *word, const char *what)
{
    char *end;
    long value = strtol(word, &end, 10);
    if (!*word || *end) misused("%s is a number, not %s", what, word);
    return value;
}
static const char *option(char **words, const char *name, const char *otherwise)
{
    for (; *words; words++)
        if (!strcmp(*words, name)) return words[1];
    return otherwise;
}
static int numeric(char **words, const char *name, const char *otherwise)
{
    return (int)number(option(words, name, otherwise), name);
}
static bool given(char **words, const char *name)
{
    for (; *words; words++)
        if (!strcmp(*words, name)) return true;
    return false;
}
static bool either(const char *word, const char *yes, const char *no)
{
    if (strcmp(word, yes) && strcmp(word, no)) misused("%s or %s, not %s", yes, no, word);
    return !strcmp(word, yes);
}
static unsigned gpu_number(const char *word)
{
    long gpu = number(word, "a GPU");
    if (gpu < 0 || gpu >= (long)sim->gpus) fail("there is no GPU %s: there are %u", word, sim->gpus);
    return (unsigned)gpu;
}

static void show(void)
{
    static const char *const modes[] = {"disabled", "enabled", "unsupported"};
    printf("driver %s %s\n", sim->driver_version, sim->loaded ? "loaded" : "not loaded");
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        struct sim_gpu *one = &sim->gpu[gpu];
        unsigned current = sim_mig_capable(gpu) ? one->mig_current : 2, pending = sim_mig_capable(gpu) ? one->mig_pending : 2;
        printf("gpu %u %s %s mig=%s pending=%s%s%s\n", gpu, sim_product(gpu)->key, one->uuid, modes[current], modes[pending],
               one->passthrough ? " passthrough" : "", one->lost ? " lost" : "");
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
    unsigned gpu = gpu_number(words[1]);
    while (hold < sim->hold + SIM_HOLDS && hold->used) hold++;
    if (hold == sim->hold + SIM_HOLDS) fail("no room for another process");
    memset(hold, 0, sizeof *hold);
    hold->gpu = gpu;
    hold->instance = (unsigned)numeric(words, "--gi", "-1");
    hold->compute = (unsigned)numeric(words, "--ci", hold->instance == SIM_NONE ? "-1" : "0");
    hold->pid = (unsigned)numeric(words, "--pid", "4242");
    hold->fixed = hold->used = true;
    snprintf(hold->name, sizeof hold->name, "%s", option(words, "--name", "python3"));
}
static bool can_fail(const char *function)
{
    static const char *const functions[] = {
        "writes",
#include "functions.inc"
    };
    for (unsigned n = 0; n < sizeof functions / sizeof *functions; n++)
        if (!strcmp(functions[n], function)) return true;
    return false;
}
static void fault(char **words)
{
    struct sim_fault *one = sim->fault, made = {.used = true};
    char calls[32], *dash;
    if (!can_fail(words[1])) misused("no simulated function is called %s", words[1]);
    snprintf(calls, sizeof calls, "%s", option(words, "--calls", "1"));
    if ((dash = strchr(calls, '-'))) *dash++ = 0;
    made.from = (unsigned)number(calls, "--calls");
    made.to = !dash ? made.from : *dash ? (unsigned)number(dash, "--calls") : UINT_MAX;
    snprintf(made.function, sizeof made.function, "%s", words[1]);
    made.gpu = numeric(words, "--gpu", "-1");
    if (made.gpu >= (int)sim->gpus) fail("fault: there are %u GPUs", sim->gpus);
    made.code = numeric(words, "--return", "0");
    made.delay_ms = (unsigned)numeric(words, "--delay", "0");
    made.after = given(words, "--after");
    made.kill = given(words, "--kill");
    while (one < sim->fault + SIM_FAULTS && one->used) one++;
    if (one == sim->fault + SIM_FAULTS) fail("no room for another fault");
    *one = made;
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

static void on_gpu(char **words)
{
    const char *command = words[0];
    unsigned gpu = gpu_number(words[1]);
    if (!strcmp(command, "busy")) busy(words);
    else if (!strcmp(command, "idle")) {
        for (struct sim_hold *hold = sim->hold; hold < sim->hold + SIM_HOLDS; hold++)
            if (hold->gpu == gpu) hold->used = false;
    } else if (!strcmp(command, "lose")) sim->gpu[gpu].lost = true;
    else if (!strcmp(command, "find")) sim->gpu[gpu].lost = false;
    else if (!strcmp(command, "passthrough")) sim->gpu[gpu].passthrough = either(words[2], "on", "off");
    else if (!strcmp(command, "delay")) sim->gpu[gpu].delay_ms = (unsigned)number(words[2], "a delay");
    else if (!strcmp(command, "xid")) {
        sim->xid[sim->xids % SIM_XIDS].gpu = gpu;
        sim->xid[sim->xids % SIM_XIDS].code = (uint64_t)number(words[2], "an Xid");
        sim->xids++;
    } else {
        for (char **word = words + 1; *word; word++) gpu_number(*word); /* all are looked at before one is reset */
        for (char **word = words + 1; *word; word++) sim_reset_gpu(gpu_number(*word));
    }
}

int main(int count, char **words)
{
    if (count > 2 && !strcmp(words[1], "--state")) {
        setenv("NVML_SIM_STATE", words[2], 1);
        words += 2;
    }
    words++;
    if (!*words) misused("which command?");
    check(words);
    const char *state = sim_state_path(), *command = words[0];
    if (!strcmp(command, "init")) { init_state(state, words[1]); return 0; }
    if (!strcmp(command, "log")) { show_log(state, given(words, "--writes")); return 0; }
    int error = sim_open(state);
    if (error) fail("%s: %s", state, strerror(error));
    sim_is_host = !strcmp(state, SIM_DEFAULT_STATE);
    sim_lock(); /* the end of the process unlocks as well: nothing is half done where a word is refused */
    if (!strcmp(command, "files")) write_files(words[1]);
    else if (!strcmp(command, "show")) show();
    else if (!strcmp(command, "reboot")) { sim_reboot(); sim->pid_namespace = sim_own_pid_namespace(); }
    else if (!strcmp(command, "driver")) {
        sim_driver(either(words[1], "load", "unload"));
        if (words[2]) snprintf(sim->driver_version, sizeof sim->driver_version, "%s", words[2]);
    }
    else if (!strcmp(command, "fault")) fault(words);
    else if (!strcmp(command, "clear-faults")) memset(sim->fault, 0, sizeof sim->fault);
    else if (!strcmp(command, "uuids")) sim->stable_uuids = either(words[1], "stable", "new");
    else if (!strcmp(command, "clear-log")) {
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s.log", state);
        if (truncate(name, 0) && errno != ENOENT) fail("%s: %s", name, strerror(errno));
    } else on_gpu(words);
    sim_unlock();
    sim_close();
    return 0;
}
