// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package labels turns the GPUs of a host into the node labels of GPU feature discovery. Pure.
package labels

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gpufleet.io/lab/publishers/internal/gpus"
	"gpufleet.io/lab/publishers/internal/sharing"
	"gpufleet.io/lab/publishers/internal/strategy"
)

// Labels are label values by full key.
type Labels map[string]string

// Input is everything that the labels say something about.
type Input struct {
	Host       *gpus.Host
	Strategy   string
	Sharing    sharing.TimeSlicing
	Machine    string
	PCIClasses []uint64
}

const prefix = "nvidia.com/"

var notInLabel = regexp.MustCompile(`[^A-Za-z0-9\-_. ]`)

// Generate makes the labels without the timestamp; none for a host without GPUs.
func Generate(in Input) Labels {
	out := Labels{}
	if len(in.Host.GPUs) == 0 {
		return out
	}
	out.versions(in.Host)
	out.set("gpu.machine", Sanitise(in.Machine))
	out.set("gpu.mode", mode(in.PCIClasses))
	out.set("vgpu.present", "false")
	out.set("mps.capable", "false")
	capable := false
	for _, board := range in.Host.GPUs {
		capable = capable || board.MIGCapable
	}
	out.set("mig.capable", strconv.FormatBool(capable))
	out.fullGPUs(in)
	switch in.Strategy {
	case strategy.Single:
		out.set("mig.strategy", in.Strategy)
		out.single(in)
	case strategy.Mixed:
		out.set("mig.strategy", in.Strategy)
		out.mixed(in)
	}
	return out
}

// Sanitise makes a name fit for a label value.
func Sanitise(name string) string {
	return strings.Join(strings.Fields(notInLabel.ReplaceAllString(name, "")), "-")
}

func (l Labels) set(key string, value any) { l[prefix+key] = fmt.Sprint(value) }

func (l Labels) versions(host *gpus.Host) {
	parts := append(strings.SplitN(host.DriverVersion, ".", 3), "", "")
	l.set("cuda.driver.major", parts[0])
	l.set("cuda.driver.minor", parts[1])
	l.set("cuda.driver.rev", parts[2])
	l.set("cuda.driver-version.major", parts[0])
	l.set("cuda.driver-version.minor", parts[1])
	l.set("cuda.driver-version.revision", parts[2])
	l.set("cuda.driver-version.full", host.DriverVersion)
	for _, group := range []string{"cuda.runtime", "cuda.runtime-version"} {
		l.set(group+".major", host.CudaMajor)
		l.set(group+".minor", host.CudaMinor)
	}
	l.set("cuda.runtime-version.full", fmt.Sprintf("%d.%d", host.CudaMajor, host.CudaMinor))
}

// fullGPUs describes the boards themselves, MIG or not.
//
// The keys have room for one product name. Where a host has several, the real program takes one by the order of a Go
// map, but a name with a MIG-disabled GPU always beats one without. Here the last in index order is taken: one of the
// answers that the real program gives, and always the same.
func (l Labels) fullGPUs(in Input) {
	var chosen gpus.GPU
	chosenHasFull := false
	for _, board := range in.Host.GPUs {
		hasFull := false
		for _, other := range in.Host.GPUs {
			hasFull = hasFull || (other.Name == board.Name && !other.MIGEnabled)
		}
		if hasFull || !chosenHasFull {
			chosen, chosenHasFull = board, hasFull
		}
	}
	count := 0
	for _, board := range in.Host.GPUs {
		if board.Name == chosen.Name {
			count++
		}
	}
	l.set("gpu.count", count)
	l.set("gpu.memory", chosen.MemoryMiB)
	l.set("gpu.family", family(chosen.Capability))
	l.set("gpu.compute.major", chosen.Capability[0])
	l.set("gpu.compute.minor", chosen.Capability[1])
	if chosenHasFull {
		l.product("gpu", Sanitise(chosen.Name), in.Sharing)
		return
	}
	// GPUs that are all partitioned are not handed out whole, so sharing says nothing about them.
	l.set("gpu.product", Sanitise(chosen.Name))
	l.set("gpu.replicas", 0)
	l.set("gpu.sharing-strategy", "none")
}

// product sets what sharing has a say in: product, replicas and sharing strategy of one resource.
func (l Labels) product(resource, product string, shared sharing.TimeSlicing) {
	replicas, way := 1, "none"
	if entry := shared.For(prefix + resource); entry != nil {
		replicas, way = entry.Replicas, "time-slicing"
		if entry.Rename == "" {
			product += "-SHARED"
		}
	}
	l.set(resource+".product", product)
	l.set(resource+".replicas", replicas)
	l.set(resource+".sharing-strategy", way)
}

// instances sets the labels of the MIG devices behind one resource; the first one speaks for all.
func (l Labels) instances(resource string, first strategy.Device, count int, shared sharing.TimeSlicing) {
	profile := strings.ReplaceAll(first.MIG.Profile, "+", ".")
	l.product(resource, Sanitise(first.GPU.Name)+"-MIG-"+profile, shared)
	attributes := first.MIG.Attributes
	l.set(resource+".count", count)
	l.set(resource+".memory", attributes.MemorySizeMB)
	l.set(resource+".multiprocessors", attributes.MultiprocessorCount)
	l.set(resource+".slices.gi", attributes.GpuInstanceSliceCount)
	l.set(resource+".slices.ci", attributes.ComputeInstanceSliceCount)
	l.set(resource+".engines.copy", attributes.SharedCopyEngineCount)
	l.set(resource+".engines.decoder", attributes.SharedDecoderCount)
	l.set(resource+".engines.encoder", attributes.SharedEncoderCount)
	l.set(resource+".engines.jpeg", attributes.SharedJpegCount)
	l.set(resource+".engines.ofa", attributes.SharedOfaCount)
}

// single overrides the labels of the full GPUs with those of the MIG devices, or marks the node as not usable. Unlike
// the device plugin, feature discovery compares the profiles' names, not the devices' attributes.
func (l Labels) single(in Input) {
	var enabled []gpus.GPU
	for _, board := range in.Host.GPUs {
		if board.MIGEnabled {
			enabled = append(enabled, board)
		}
	}
	if len(enabled) == 0 {
		return
	}
	valid := len(enabled) == len(in.Host.GPUs)
	profiles := map[string]bool{}
	count := 0
	for _, board := range enabled {
		valid = valid && len(board.MIGDevices) > 0
		count += len(board.MIGDevices)
		for _, part := range board.MIGDevices {
			profiles[part.Profile] = true
		}
	}
	if !valid || len(profiles) != 1 {
		l.set("gpu.product", Sanitise(enabled[0].Name)+"-MIG-INVALID")
		l.set("gpu.count", 0)
		l.set("gpu.replicas", 0)
		l.set("gpu.memory", 0)
		l.set("gpu.sharing-strategy", "")
		return
	}
	l.instances("gpu", strategy.Device{GPU: enabled[0], MIG: &enabled[0].MIGDevices[0]}, count, in.Sharing)
}

func (l Labels) mixed(in Input) {
	first := map[string]strategy.Device{}
	count := map[string]int{}
	for _, board := range in.Host.GPUs {
		for i := range board.MIGDevices {
			profile := board.MIGDevices[i].Profile
			if _, seen := first[profile]; !seen {
				first[profile] = strategy.Device{GPU: board, MIG: &board.MIGDevices[i]}
			}
			count[profile]++
		}
	}
	for profile, found := range first {
		resource := strings.TrimPrefix(strategy.ResourceName(profile), prefix)
		l.instances(resource, found, count[profile], in.Sharing)
	}
}

// mode says what the GPUs are good for, by the PCI class that they show.
func mode(classes []uint64) string {
	names := map[uint64]string{0x0300: "graphics", 0x0302: "compute"}
	said := ""
	for _, class := range classes {
		name, known := names[class]
		if !known || (said != "" && said != name) {
			return "unknown"
		}
		said = name
	}
	if said == "" {
		return "unknown"
	}
	return said
}

// family names the architecture of a CUDA compute capability.
func family(capability [2]int) string {
	major, minor := capability[0], capability[1]
	switch {
	case major == 6:
		return "pascal"
	case major == 7 && minor >= 5:
		return "turing"
	case major == 7:
		return "volta"
	case major == 8 && minor == 9:
		return "ada-lovelace"
	case major == 8:
		return "ampere"
	case major == 9:
		return "hopper"
	case major == 10 || major == 12:
		return "blackwell"
	}
	return "undefined"
}
