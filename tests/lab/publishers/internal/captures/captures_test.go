// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package captures_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"gpufleet.io/lab/publishers/internal/captures"
	"gpufleet.io/lab/publishers/internal/gpus"
	"gpufleet.io/lab/publishers/internal/labels"
	"gpufleet.io/lab/publishers/internal/strategy"
)

func read(t *testing.T) ([]captures.Capture, map[string]captures.Product) {
	t.Helper()
	all, err := captures.Read()
	if err != nil {
		t.Fatal(err)
	}
	products, err := captures.Products()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no captures")
	}
	return all, products
}

// hostOf makes what NVML would say of a captured host.
func hostOf(t *testing.T, capture captures.Capture, products map[string]captures.Product) *gpus.Host {
	t.Helper()
	host := &gpus.Host{DriverVersion: capture.DriverVersion}
	if _, err := fmt.Sscanf(capture.CudaVersion, "%d.%d", &host.CudaMajor, &host.CudaMinor); err != nil {
		t.Fatal(err)
	}
	for index, board := range capture.Host {
		product := products[board.Product]
		gpu := gpus.GPU{
			Index: index, UUID: fmt.Sprintf("GPU-%d", index), Name: product.Name, MemoryMiB: product.MemoryMiB,
			MIGCapable: true, MIGEnabled: board.MIGEnabled,
		}
		if _, err := fmt.Sscanf(product.ComputeCapability, "%d.%d", &gpu.Capability[0], &gpu.Capability[1]); err != nil {
			t.Fatal(err)
		}
		for gi, instance := range board.Instances {
			for ci, name := range instance.ComputeInstances {
				profile, compute, err := product.Find(instance.Profile, name)
				if err != nil {
					t.Fatal(err)
				}
				attributes := nvml.DeviceAttributes{
					MultiprocessorCount: profile.SM, SharedCopyEngineCount: profile.CE, SharedDecoderCount: profile.Dec,
					SharedEncoderCount: profile.Enc, SharedJpegCount: profile.JPEG, SharedOfaCount: profile.OFA,
					GpuInstanceSliceCount: profile.Slices, ComputeInstanceSliceCount: compute.Slices,
					MemorySizeMB: profile.MemoryMiB,
				}
				if compute.SM != nil {
					attributes.MultiprocessorCount = *compute.SM
				}
				gpu.MIGDevices = append(gpu.MIGDevices, gpus.MIGDevice{
					Position: len(gpu.MIGDevices), UUID: fmt.Sprintf("MIG-%d-%d-%d", index, gi, ci),
					GI: gi, CI: ci, Profile: name, Attributes: attributes,
				})
			}
		}
		host.GPUs = append(host.GPUs, gpu)
	}
	return host
}

func TestResourcesAndErrorsAreThoseOfTheRealPlugin(t *testing.T) {
	all, products := read(t)
	for _, capture := range all {
		t.Run(capture.Name(), func(t *testing.T) {
			plan, err := strategy.Build(capture.Strategy, hostOf(t, capture, products).GPUs)
			if capture.PluginError != nil {
				if err == nil || !captures.SameEnding(*capture.PluginError, err.Error()) {
					t.Fatalf("real: %s\nours: %v", *capture.PluginError, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			counts := map[string]int{}
			for name, devices := range plan.Resources {
				counts[name] = len(devices)
			}
			if !maps.Equal(counts, capture.Resources) {
				t.Fatalf("real: %v\nours: %v", capture.Resources, counts)
			}
		})
	}
}

func TestLabelsAreThoseOfTheRealFeatureDiscovery(t *testing.T) {
	all, products := read(t)
	for _, capture := range all {
		t.Run(capture.Name(), func(t *testing.T) {
			host := hostOf(t, capture, products)
			in := labels.Input{Host: host, Strategy: capture.Strategy, Machine: "SimServer-1"}
			for range host.GPUs {
				in.PCIClasses = append(in.PCIClasses, 0x0302)
			}
			ours := labels.Generate(in)
			for _, real := range append(capture.LabelsAlternatives, capture.Labels) {
				if maps.Equal(ours, real) {
					return
				}
			}
			t.Fatalf("none of the real answers; against the first one: %v", Difference(capture.Labels, ours))
		})
	}
}

// Difference lists the keys whose values differ, real value first.
func Difference(real, ours map[string]string) []string {
	var lines []string
	for key, value := range real {
		if found, has := ours[key]; !has || found != value {
			lines = append(lines, fmt.Sprintf("%s: %q, ours %q", key, value, found))
		}
	}
	for key, value := range ours {
		if _, has := real[key]; !has {
			lines = append(lines, fmt.Sprintf("%s: absent, ours %q", key, value))
		}
	}
	return lines
}
