// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package cdispec writes the CDI specification that container runtimes resolve the plugin's device names with.
package cdispec

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/NVIDIA/go-nvlib/pkg/nvlib/device"
	"github.com/NVIDIA/go-nvlib/pkg/nvlib/info"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi/transform/root"
)

// The kind of all devices: the device plugin's own, so that it never meets a specification made by nvidia-ctk.
const (
	Vendor = "k8s.device-plugin.nvidia.com"
	Class  = "gpu"
)

// Roots say where the driver is. Inside the plugin's container it is mounted elsewhere than on the host.
type Roots struct {
	InContainer string
	OnHost      string
}

// Spec is what is needed to write a specification.
type Spec struct {
	Library  nvml.Interface
	Roots    Roots
	HookPath string // of nvidia-cdi-hook or nvidia-ctk, on the host
	Folder   string // usually /var/run/cdi
}

// DeviceName is the qualified name of a GPU or MIG device.
func DeviceName(uuid string) string { return fmt.Sprintf("%s/%s=%s", Vendor, Class, uuid) }

// Write makes the specification of all GPUs and MIG devices. A host where there is none, such as one whose only GPU is
// MIG-enabled and empty, is an error: a specification without devices is not valid.
func (s Spec) Write() error {
	devices := device.New(s.Library)
	namer, err := nvcdi.NewDeviceNamer(nvcdi.DeviceNameStrategyUUID)
	if err != nil {
		return err
	}
	generator, err := nvcdi.New(
		nvcdi.WithLogger(errorsOnly{}),
		nvcdi.WithInfoLib(info.New(info.WithNvmlLib(s.Library), info.WithDeviceLib(devices))),
		nvcdi.WithNvmlLib(s.Library),
		nvcdi.WithDeviceLib(devices),
		nvcdi.WithDriverRoot(s.Roots.InContainer),
		nvcdi.WithDevRoot(s.Roots.InContainer),
		nvcdi.WithNVIDIACDIHookPath(s.HookPath),
		nvcdi.WithDeviceNamers(namer),
		nvcdi.WithVendor(Vendor),
		nvcdi.WithClass(Class),
		nvcdi.WithMode(nvcdi.ModeNvml),
		nvcdi.WithFeatureFlags(nvcdi.FeatureDisableNvsandboxUtils),
	)
	if err != nil {
		return fmt.Errorf("failed to create CDI library: %w", err)
	}
	spec, err := generator.GetSpec("all")
	if err != nil {
		return fmt.Errorf("failed to get CDI spec: %w", err)
	}
	transformer := root.NewDriverTransformer(
		root.WithDriverRoot(s.Roots.InContainer), root.WithTargetDriverRoot(s.Roots.OnHost),
		root.WithDevRoot(s.Roots.InContainer), root.WithTargetDevRoot(s.Roots.OnHost),
	)
	if err := transformer.Transform(spec.Raw()); err != nil {
		return fmt.Errorf("failed to transform driver root in CDI spec: %w", err)
	}
	if len(spec.Raw().Devices) == 0 {
		return fmt.Errorf("failed to save CDI spec: invalid CDI Spec: invalid spec, no devices")
	}
	if err := os.MkdirAll(s.Folder, 0o755); err != nil {
		return err
	}
	if err := spec.Save(filepath.Join(s.Folder, fmt.Sprintf("%s-%s.json", Vendor, Class))); err != nil {
		return fmt.Errorf("failed to save CDI spec: %w", err)
	}
	return nil
}

// errorsOnly keeps the library quiet about the many files of a driver that a host may lack and a simulated one does.
type errorsOnly struct{}

func (errorsOnly) Debugf(string, ...any)                  {}
func (errorsOnly) Infof(string, ...any)                   {}
func (errorsOnly) Tracef(string, ...any)                  {}
func (errorsOnly) Warningf(string, ...any)                {}
func (errorsOnly) Errorf(format string, arguments ...any) { log.Printf(format, arguments...) }
