/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 * What Triton's Python backend asks of libcuda.so where there is one: it wants these functions, and is content with a
 * driver that finds no device. The simulated driver's stub, which the node brings, has none of them. */

enum { NO_DEVICE = 100 };

int cuInit(unsigned flags) { (void)flags; return NO_DEVICE; }

int cuPointerGetAttribute(void *data, int attribute, unsigned long long pointer) {
  (void)data; (void)attribute; (void)pointer;
  return NO_DEVICE;
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  (void)device; (void)flags; (void)active;
  return NO_DEVICE;
}

int cuGetErrorString(int error, const char **text) {
  (void)error;
  *text = "no CUDA-capable device is detected";
  return 0;
}
