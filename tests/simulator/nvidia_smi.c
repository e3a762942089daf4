/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * nvidia-smi of the simulation: the commands that people and tools use around MIG, over NVML alone. */
#include "smi.h"
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMI_GPUS = SIM_GPUS };

_Noreturn void smi_fail(nvmlReturn_t result, const char *what)
{
    if (result == NVML_ERROR_DRIVER_NOT_LOADED)
        printf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
               "NVIDIA driver is installed and running.\n");
    else printf("%s: %s\n", what, nvmlErrorString(result));
    exit(result == NVML_ERROR_DRIVER_NOT_LOADED ? 9 : result);
}
_Noreturn void smi_misused(const char *word)
{
    printf("Invalid combination of input arguments: %s. Please run 'nvidia-smi -h' for help.\n", word);
    exit(2);
}
static void must(nvmlReturn_t result, const char *what) { if (result != NVML_SUCCESS) smi_fail(result, what); }

static unsigned all_gpus(struct smi_gpu *gpus)
{
    unsigned count = 0, found = 0;
    must(nvmlDeviceGetCount_v2(&count), "Unable to count the GPUs");
    for (unsigned n = 0; n < count; n++)
        if (nvmlDeviceGetHandleByIndex_v2(n, &gpus[found].device) == NVML_SUCCESS) gpus[found++].index = n;
    return found;
}

unsigned smi_chosen(const char *list, struct smi_gpu *gpus, unsigned room)
{
    char copy[1024];
    unsigned found = 0;
    if (!list) return all_gpus(gpus);
    snprintf(copy, sizeof copy, "%s", list);
    for (char *word = strtok(copy, ","); word && found < room; word = strtok(NULL, ",")) {
        nvmlDevice_t device;
        nvmlReturn_t result;
        if (strchr(word, ':')) result = nvmlDeviceGetHandleByPciBusId_v2(word, &device);
        else if (!strncmp(word, "GPU-", 4)) result = nvmlDeviceGetHandleByUUID(word, &device);
        else result = nvmlDeviceGetHandleByIndex_v2((unsigned)strtoul(word, NULL, 10), &device);
        if (result != NVML_SUCCESS && result != NVML_ERROR_GPU_IS_LOST) {
            printf("No devices were found\n");
            exit(6);
        }
        gpus[found].device = device;
        must(nvmlDeviceGetIndex(device, &gpus[found].index), word);
        found++;
    }
    return found;
}

static void list(const struct smi_gpu *gpus, unsigned count)
{
    char name[160], uuid[96];
    for (unsigned n = 0; n < count; n++) {
        unsigned parts = 0;
        nvmlDevice_t part;
        must(nvmlDeviceGetName(gpus[n].device, name, sizeof name), "name");
        must(nvmlDeviceGetUUID(gpus[n].device, uuid, sizeof uuid), "UUID");
        printf("GPU %u: %s (UUID: %s)\n", gpus[n].index, name, uuid);
        if (nvmlDeviceGetMaxMigDeviceCount(gpus[n].device, &parts) != NVML_SUCCESS) continue;
        for (unsigned m = 0; m < parts; m++) {
            if (nvmlDeviceGetMigDeviceHandleByIndex(gpus[n].device, m, &part) != NVML_SUCCESS) continue;
            must(nvmlDeviceGetName(part, name, sizeof name), "name");
            must(nvmlDeviceGetUUID(part, uuid, sizeof uuid), "UUID");
            const char *profile = strstr(name, " MIG ");
            printf("  MIG %-11s Device %2u: (UUID: %s)\n", profile ? profile + 5 : name, m, uuid);
        }
    }
}

static void versions(void)
{
    char driver[64];
    int cuda = 0;
    must(nvmlSystemGetDriverVersion(driver, sizeof driver), "driver version");
    must(nvmlSystemGetCudaDriverVersion_v2(&cuda), "CUDA version");
    const char *point = strchr(driver, '.'), *rest = point ? strchr(point + 1, '.') : NULL;
    int major_and_minor = rest ? (int)(rest - driver) : (int)strlen(driver);
    printf("NVIDIA-SMI version  : %s\nNVML version        : %.*s\nDRIVER version      : %s\nCUDA Version        : %d.%d\n", driver,
           major_and_minor, driver, driver, cuda / 1000, cuda % 1000 / 10);
}

static void overview(const struct smi_gpu *gpus, unsigned count)
{
    char version[64], name[160];
    int cuda = 0;
    must(nvmlSystemGetDriverVersion(version, sizeof version), "driver version");
    must(nvmlSystemGetCudaDriverVersion_v2(&cuda), "CUDA version");
    printf("| NVIDIA-SMI %s   Driver Version: %s   CUDA Version: %d.%d |\n", version, version, cuda / 1000, cuda % 1000 / 10);
    for (unsigned n = 0; n < count; n++) {
        unsigned current = 0, pending = 0;
        nvmlMemory_t memory;
        must(nvmlDeviceGetName(gpus[n].device, name, sizeof name), "name");
        must(nvmlDeviceGetMemoryInfo(gpus[n].device, &memory), "memory");
        bool able = nvmlDeviceGetMigMode(gpus[n].device, &current, &pending) == NVML_SUCCESS;
        const char *mode = !able ? "N/A" : current ? "Enabled" : "Disabled";
        printf("| %3u  %-45s %8lluMiB  MIG: %s%s |\n", gpus[n].index, name, memory.total >> 20, mode, current != pending ? "*" : "");
    }
}

static void one_field(const struct smi_gpu *gpu, const char *field, bool units)
{
    char text[160];
    unsigned current = 0, pending = 0;
    nvmlMemory_t memory;
    nvmlPciInfo_t pci;
    if (!strcmp(field, "index")) printf("%u", gpu->index);
    else if (!strcmp(field, "name") && nvmlDeviceGetName(gpu->device, text, sizeof text) == NVML_SUCCESS) printf("%s", text);
    else if (!strcmp(field, "uuid") && nvmlDeviceGetUUID(gpu->device, text, sizeof text) == NVML_SUCCESS) printf("%s", text);
    else if (!strcmp(field, "pci.bus_id") && nvmlDeviceGetPciInfo_v3(gpu->device, &pci) == NVML_SUCCESS) printf("%s", pci.busId);
    else if (!strcmp(field, "driver_version") && nvmlSystemGetDriverVersion(text, sizeof text) == NVML_SUCCESS) printf("%s", text);
    else if (!strcmp(field, "memory.total") && nvmlDeviceGetMemoryInfo(gpu->device, &memory) == NVML_SUCCESS)
        printf("%llu%s", memory.total >> 20, units ? " MiB" : "");
    else if (!strncmp(field, "mig.mode.", 9)) {
        if (nvmlDeviceGetMigMode(gpu->device, &current, &pending) != NVML_SUCCESS) printf("[N/A]");
        else printf("%s", (strcmp(field + 9, "current") ? pending : current) ? "Enabled" : "Disabled");
    } else {
        printf("Field \"%s\" is not a valid field to query.\n", field);
        exit(2);
    }
}
static void query(const struct smi_gpu *gpus, unsigned count, const char *fields, const char *format)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", fields);
    if (!strstr(format, "noheader")) {
        for (char *rest = copy, *field; (field = strsep(&rest, ","));)
            printf("%s%s%s", field, strncmp(field, "memory.", 7) ? "" : " [MiB]", rest ? ", " : "\n");
    }
    for (unsigned n = 0; n < count; n++) {
        snprintf(copy, sizeof copy, "%s", fields);
        const char *separator = "";
        for (char *field = strtok(copy, ","); field; field = strtok(NULL, ","), separator = ", ") {
            printf("%s", separator);
            one_field(&gpus[n], field, !strstr(format, "nounits"));
        }
        printf("\n");
    }
}

static const char *bus_id(nvmlDevice_t device)
{
    static nvmlPciInfo_t pci;
    must(nvmlDeviceGetPciInfo_v3(device, &pci), "PCI");
    return pci.busId;
}
static int set_mode(const struct smi_gpu *gpus, unsigned count, unsigned mode)
{
    const char *word = mode ? "Enabled" : "Disabled", *state = mode ? "enable" : "disable";
    for (unsigned n = 0; n < count; n++) {
        nvmlReturn_t activation = NVML_SUCCESS, result = nvmlDeviceSetMigMode(gpus[n].device, mode, &activation);
        const char *bus = bus_id(gpus[n].device);
        if (result != NVML_SUCCESS) {
            printf("Unable to %s MIG Mode for GPU %s: %s\n", state, bus, nvmlErrorString(result));
            if (result != NVML_ERROR_NOT_SUPPORTED) return result;
            printf("Treating as warning and moving on.\n");
            continue;
        }
        if (activation == NVML_ERROR_IN_USE)
            printf("Warning: MIG mode is in pending %s state for GPU %s:In use by another client\n", state, bus);
        else if (activation != NVML_SUCCESS)
            printf("Warning: MIG mode is in pending %s state for GPU %s:Not Supported\nReboot the system or try nvidia-smi "
                   "--gpu-reset to make MIG mode effective on GPU %s\n", state, bus, bus);
        else printf("%s MIG Mode for GPU %s\n", word, bus);
    }
    printf("All done.\n");
    return 0;
}
static int reset(const struct smi_gpu *gpus, unsigned count)
{
    unsigned indices[SMI_GPUS];
    for (unsigned n = 0; n < count; n++) must(nvmlDeviceGetMinorNumber(gpus[n].device, &indices[n]), "minor");
    nvmlReturn_t result = simReset(indices, count);
    for (unsigned n = 0; n < count; n++) {
        const char *bus = bus_id(gpus[n].device);
        if (result == NVML_SUCCESS) printf("GPU %s was successfully reset.\n", bus);
        else printf("GPU %s could not be reset: %s.\n", bus, nvmlErrorString(result));
    }
    if (result == NVML_SUCCESS) printf("All done.\n");
    return result;
}

static bool is(const char *word, const char *one, const char *other)
{
    return !strcmp(word, one) || !strcmp(word, other);
}

int main(int count, char **words)
{
    struct smi_gpu gpus[SMI_GPUS];
    const char *chosen = NULL, *fields = NULL, *format = "csv", *mode = NULL;
    bool lists = false, resets = false;
    must(nvmlInit_v2(), "Failed to initialize NVML");
    if (count > 1 && !strcmp(words[1], "mig")) return smi_mig(count - 2, words + 2);
    for (int n = 1; n < count; n++) {
        bool more = n + 1 < count;
        if (is(words[n], "-L", "--list-gpus")) lists = true;
        else if (is(words[n], "-r", "--gpu-reset")) resets = true;
        else if (is(words[n], "-i", "--id") && more) chosen = words[++n];
        else if (!strncmp(words[n], "--id=", 5)) chosen = words[n] + 5;
        else if (is(words[n], "-mig", "--multi-instance-gpu") && more) mode = words[++n];
        else if (!strncmp(words[n], "--query-gpu=", 12)) fields = words[n] + 12;
        else if (!strncmp(words[n], "--format=", 9)) format = words[n] + 9;
        else if (!strcmp(words[n], "--version")) { versions(); return 0; }
        else smi_misused(words[n]);
    }
    unsigned found = smi_chosen(chosen, gpus, SMI_GPUS);
    int result = 0;
    if (!found) printf("No devices were found\n");
    else if (lists) list(gpus, found);
    else if (resets) result = reset(gpus, found);
    else if (mode) result = set_mode(gpus, found, *mode == '1' || *mode == 'E');
    else if (fields) query(gpus, found, fields, format);
    else overview(gpus, found);
    nvmlShutdown();
    return found ? result : 6;
}
