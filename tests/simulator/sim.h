/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * What the simulated libnvidia-ml.so.1 exports beside NVML, for the simulation's own programs. Call nvmlInit() first.
 */
#ifndef SIM_H
#define SIM_H

#include "nvml_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reset GPUs, as the driver does for `nvidia-smi -r`: NVML itself has no function for it.
 *
 * `indices` are those of nvmlDeviceGetHandleByIndex. All or nothing. NVML_ERROR_NO_PERMISSION unless root,
 * NVML_ERROR_IN_USE when a process uses one of the GPUs, NVML_ERROR_INVALID_ARGUMENT for an unknown index.
 * Instances vanish and the pending MIG mode becomes the current one. */
int simReset(const unsigned *indices, unsigned count);

/* The calling process uses a GPU ("GPU-...") or MIG device ("MIG-...") until simRelease() or until it ends in any way.
 *
 * It may live in a container: NVML shows its pid as each reader's PID namespace has it. `memory_mib` is what NVML reports
 * as used. Needs write access to the state file, not root. NVML_ERROR_NOT_FOUND for a device that is not there (or that
 * this container was not given), NVML_ERROR_INVALID_ARGUMENT for the UUID of a GPU whose MIG mode is enabled (no program
 * can use it as a whole), NVML_ERROR_INSUFFICIENT_RESOURCES when the table of processes is full. */
int simHold(const char *uuid, unsigned memory_mib);

/* Ends all uses by this process. */
int simRelease(void);

/* The path of the state file that the library uses, "" when there is none. */
const char *simStatePath(void);

#ifdef __cplusplus
}
#endif

#endif
