// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package gpus reads the GPUs of a host and their MIG devices through NVML, once, into plain values.
package gpus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/NVIDIA/go-nvlib/pkg/nvlib/device"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Host is what NVML says at one moment.
type Host struct {
	DriverVersion string // as the driver says it: "580.82.07"
	CudaMajor     int
	CudaMinor     int
	GPUs          []GPU // in index order
}

// GPU is one board.
type GPU struct {
	Index      int
	UUID       string
	Name       string // nvmlDeviceGetName: "NVIDIA A100-SXM4-40GB"
	PCIBusID   string // as sysfs spells it: "0000:07:00.0"
	Minor      int    // N of /dev/nvidiaN
	MemoryMiB  uint64
	Capability [2]int // CUDA compute capability
	MIGCapable bool
	MIGEnabled bool
	MIGDevices []MIGDevice // in NVML's order; a GPU instance without compute instance has none
	Handle     nvml.Device // for events; only valid while NVML stays initialised
}

// MIGDevice is one compute instance.
type MIGDevice struct {
	Position   int // among the MIG devices of its GPU
	UUID       string
	GI, CI     int
	Profile    string // canonical: "1g.10gb+me", "1c.3g.20gb"
	Attributes nvml.DeviceAttributes
}

// libraryFolders are where a driver root keeps libnvidia-ml.so.1.
var libraryFolders = []string{
	"usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib64",
	"lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib",
}

// Open initialises NVML with the library that the dynamic linker finds or, where there is none, the driver root's.
func Open(driverRoot string) (nvml.Interface, error) {
	library := nvml.New()
	result := library.Init()
	if result == nvml.ERROR_LIBRARY_NOT_FOUND {
		for _, folder := range libraryFolders {
			path := filepath.Join(driverRoot, folder, "libnvidia-ml.so.1")
			if _, err := os.Stat(path); err != nil {
				continue
			}
			library = nvml.New(nvml.WithLibraryPath(path))
			result = library.Init()
			break
		}
	}
	if result != nvml.SUCCESS {
		return nil, fmt.Errorf("failed to initialize NVML: %w", result)
	}
	return library, nil
}

// Read takes stock of the host.
func Read(library nvml.Interface) (*Host, error) {
	host := &Host{}
	var result nvml.Return
	if host.DriverVersion, result = library.SystemGetDriverVersion(); result != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting the driver version: %w", result)
	}
	cuda, result := library.SystemGetCudaDriverVersion_v2()
	if result != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting the CUDA driver version: %w", result)
	}
	host.CudaMajor, host.CudaMinor = cuda/1000, cuda%1000/10
	err := device.New(library).VisitDevices(func(index int, board device.Device) error {
		gpu, err := readGPU(index, board)
		if err != nil {
			return fmt.Errorf("GPU %d: %w", index, err)
		}
		host.GPUs = append(host.GPUs, gpu)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("error visiting devices: %w", err)
	}
	return host, nil
}

func readGPU(index int, board device.Device) (GPU, error) {
	gpu := GPU{Index: index, Handle: board}
	var results [5]nvml.Return
	gpu.UUID, results[0] = board.GetUUID()
	gpu.Name, results[1] = board.GetName()
	gpu.Minor, results[2] = board.GetMinorNumber()
	memory, result := board.GetMemoryInfo()
	results[3] = result
	gpu.MemoryMiB = memory.Total / (1024 * 1024)
	gpu.Capability[0], gpu.Capability[1], results[4] = board.GetCudaComputeCapability()
	for _, result := range results {
		if result != nvml.SUCCESS {
			return gpu, result
		}
	}
	bus, busError := board.GetPCIBusID()
	capable, capableError := board.IsMigCapable()
	enabled, enabledError := board.IsMigEnabled()
	if err := errors.Join(busError, capableError, enabledError); err != nil {
		return gpu, err
	}
	gpu.PCIBusID, gpu.MIGCapable, gpu.MIGEnabled = sysfsAddress(bus), capable, enabled
	if !enabled {
		return gpu, nil
	}
	err := board.VisitMigDevices(func(position int, part device.MigDevice) error {
		read, err := readMIGDevice(position, part)
		gpu.MIGDevices = append(gpu.MIGDevices, read)
		return err
	})
	return gpu, err
}

func readMIGDevice(position int, part device.MigDevice) (MIGDevice, error) {
	read := MIGDevice{Position: position}
	profile, err := part.GetProfile()
	if err != nil {
		return read, fmt.Errorf("MIG device %d: %w", position, err)
	}
	read.Profile = profile.String()
	var results [4]nvml.Return
	read.UUID, results[0] = part.GetUUID()
	read.GI, results[1] = part.GetGpuInstanceId()
	read.CI, results[2] = part.GetComputeInstanceId()
	read.Attributes, results[3] = part.GetAttributes()
	for _, result := range results {
		if result != nvml.SUCCESS {
			return read, fmt.Errorf("MIG device %d: %w", position, result)
		}
	}
	return read, nil
}

// sysfsAddress turns NVML's eight-digit domain into the four digits of /sys/bus/pci/devices.
func sysfsAddress(bus string) string {
	bus = strings.ToLower(bus)
	if domain, rest, found := strings.Cut(bus, ":"); found && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return bus
}
