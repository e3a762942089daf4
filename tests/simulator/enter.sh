#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# enter.sh ROOT COMMAND...: run a command that finds the files of `simctl files ROOT` where the kernel has its own
# (/proc/modules, /proc/driver, /sys/bus/pci/devices), in a mount namespace of its own. Needs root. The state and the
# library still come from NVML_SIM_STATE and LD_LIBRARY_PATH.
set -eu
if [ "${1:-}" != --inside ]; then
  [ $# -ge 2 ] || { echo "usage: enter.sh ROOT COMMAND..." >&2; exit 2; }
  exec unshare --mount --propagation private "$0" --inside "$@"
fi
root=$2
shift 2
if [ ! -e /proc/modules ]; then
  # A kernel without modules has no such file, and none can be made in a procfs: links to a second view of it instead.
  mount -t tmpfs none /mnt
  mkdir /mnt/kernel
  mount --rbind /proc /mnt/kernel
  for entry in /mnt/kernel/* ; do ln -s "/proc/kernel/${entry##*/}" "/mnt/${entry##*/}"; done
  rm /mnt/driver
  mkdir /mnt/driver
  : >/mnt/modules
  mount --rbind /mnt /proc
fi
mount --bind "$root/proc/modules" /proc/modules
mount --bind "$root/proc/driver" /proc/driver
mount --bind "$root/sys/bus/pci/devices" /sys/bus/pci/devices
exec "$@"
