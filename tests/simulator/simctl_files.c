/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * simctl files: what the driver and the kernel show beside the library (/proc/driver, PCI, device nodes). */
#include "simctl.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *base;
static void parents(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(path, 0755) && errno != EEXIST) fail("%s: %s", path, strerror(errno));
        *slash = '/';
    }
}
static FILE *start(const char *format, ...) __attribute__((format(printf, 1, 2)));
static FILE *start(const char *format, ...)
{
    char name[512], path[PATH_MAX];
    va_list more;
    va_start(more, format);
    vsnprintf(name, sizeof name, format, more);
    va_end(more);
    snprintf(path, sizeof path, "%s/%s", base, name);
    parents(path);
    FILE *stream = fopen(path, "we");
    if (!stream) fail("%s: %s", path, strerror(errno));
    return stream;
}
static void node(unsigned major_number, unsigned minor_number, unsigned mode, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/dev/%s", base, name);
    parents(path);
    unlink(path);
    if (geteuid() == 0 && mknod(path, S_IFCHR | mode, makedev(major_number, minor_number)) == 0) chmod(path, mode);
    else { /* without root the file is at least there */
        FILE *stream = fopen(path, "we");
        if (stream) fclose(stream);
    }
}

/* A major number that no driver of this machine has: a node with it opens with ENXIO, as without a driver. */
static unsigned free_major(unsigned from)
{
    char line[128];
    bool taken = true;
    while (taken) {
        FILE *stream = fopen("/proc/devices", "re");
        taken = false;
        while (stream && fgets(line, sizeof line, stream)) taken |= (unsigned)strtoul(line, NULL, 10) == from;
        if (stream) fclose(stream);
        if (taken) from++;
    }
    return from;
}

static void minors(void)
{
    FILE *stream = start("proc/driver/nvidia-caps/mig-minors");
    fprintf(stream, "config 1\nmonitor 2\n");
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++)
        for (unsigned instance = 0; instance < SIM_INSTANCE_IDS; instance++) {
            fprintf(stream, "gpu%u/gi%u/access %u\n", gpu, instance, sim_minor(gpu, instance, -1));
            for (int compute = 0; compute < SIM_COMPUTE; compute++)
                fprintf(stream, "gpu%u/gi%u/ci%d/access %u\n", gpu, instance, compute, sim_minor(gpu, instance, compute));
        }
    fclose(stream);
}

static void pci(unsigned gpu)
{
    char folder[128];
    const struct sim_product *product = sim_product(gpu);
    snprintf(folder, sizeof folder, "sys/bus/pci/devices/0000:%02x:00.0", sim->gpu[gpu].bus);
    const char *const values[][2] = {{"vendor", "0x10de"}, {"class", "0x030200"}, {"numa_node", sim_numa_node(gpu) ? "1" : "0"}, {"enable", "1"},
                                     {"subsystem_vendor", "0x0000"}, {"subsystem_device", "0x0000"}}; /* as NVML says here */
    for (unsigned n = 0; n < sizeof values / sizeof *values; n++) {
        FILE *stream = start("%s/%s", folder, values[n][0]);
        fprintf(stream, "%s\n", values[n][1]);
        fclose(stream);
    }
    FILE *stream = start("%s/device", folder);
    fprintf(stream, "0x%04x\n", product->pci_id >> 16);
    fclose(stream);
    stream = start("%s/resource", folder);
    for (unsigned line = 0; line < 13; line++)
        fprintf(stream, line ? "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                             : "0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200\n");
    fclose(stream);
    unsigned char config[256] = {0xde, 0x10};
    config[2] = product->pci_id >> 16 & 0xff;
    config[3] = product->pci_id >> 24;
    config[10] = 2; /* 3D controller: a board in compute mode, which MIG needs */
    config[11] = 3;
    stream = start("%s/config", folder);
    fwrite(config, 1, sizeof config, stream);
    fclose(stream);
}

void write_files(const char *root)
{
    char name[64];
    base = strcmp(root, "/") ? root : "";
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) pci(gpu);
    if (!sim->loaded) return; /* the rest is the driver's */
    FILE *stream = start("proc/driver/nvidia/version");
    fprintf(stream, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  (simulated)\n", sim->driver_version);
    fclose(stream);
    stream = start("proc/driver/nvidia/params");
    fprintf(stream, "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n");
    fclose(stream);
    if (*base) { /* not over the kernel's own file */
        stream = start("proc/modules");
        fprintf(stream, "nvidia_uvm 1 0 - Live 0x0000000000000000\nnvidia 1 1 nvidia_uvm, Live 0x0000000000000000\n");
        fclose(stream);
    }
    minors();
    if (!sim->caps_major) sim->caps_major = free_major(400);
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++) {
        stream = start("proc/driver/nvidia/gpus/0000:%02x:00.0/information", sim->gpu[gpu].bus);
        fprintf(stream, "Model: \t\t %s\nGPU UUID: \t %s\nBus Location: \t 0000:%02x:00.0\nDevice Minor: \t %u\n",
                sim_product(gpu)->name, sim->gpu[gpu].uuid, sim->gpu[gpu].bus, gpu);
        fclose(stream);
        snprintf(name, sizeof name, "nvidia%u", gpu);
        node(195, gpu, 0666, name);
    }
    node(195, 255, 0666, "nvidiactl");
    node(195, 254, 0666, "nvidia-modeset");
    unsigned uvm = free_major(sim->caps_major + 1);
    node(uvm, 0, 0666, "nvidia-uvm");
    node(uvm, 1, 0666, "nvidia-uvm-tools");
    node(sim->caps_major, 1, 0400, "nvidia-caps/nvidia-cap1");
    node(sim->caps_major, 2, 0444, "nvidia-caps/nvidia-cap2");
    for (unsigned gpu = 0; gpu < sim->gpus; gpu++)
        for (struct sim_instance *one = sim->gpu[gpu].instance; one < sim->gpu[gpu].instance + SIM_INSTANCES; one++)
            for (int compute = -1; one->used && compute < SIM_COMPUTE; compute++) {
                if (compute >= 0 && !one->compute[compute].used) continue;
                snprintf(name, sizeof name, "nvidia-caps/nvidia-cap%u", sim_minor(gpu, one->id, compute));
                node(sim->caps_major, sim_minor(gpu, one->id, compute), 0444, name);
            }
}
