// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package main

import (
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"gpufleet.io/lab/publishers/internal/cdispec"
	"gpufleet.io/lab/publishers/internal/gpus"
	"gpufleet.io/lab/publishers/internal/health"
	"gpufleet.io/lab/publishers/internal/options"
	"gpufleet.io/lab/publishers/internal/server"
	"gpufleet.io/lab/publishers/internal/sharing"
	"gpufleet.io/lab/publishers/internal/strategy"
)

// controlNodes are the device nodes that a container needs whatever GPU it gets.
var controlNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}

// generation is what one start of the plugin set up.
type generation struct {
	library      nvml.Interface // nil: NVML could not be initialised and nobody minds
	plugins      []*server.Plugin
	watchers     sync.WaitGroup
	unregistered error // kubelet did not take a plugin
}

func (g *generation) stop(cancel context.CancelFunc) {
	for _, plugin := range g.plugins {
		plugin.Stop()
	}
	cancel()
	g.watchers.Wait()
	if g.library != nil {
		if result := g.library.Shutdown(); result != nvml.SUCCESS {
			log.Printf("error shutting down NVML: %v", result)
		}
	}
}

func start(ctx context.Context, values *options.Values) (_ *generation, err error) {
	ctx, cancel := context.WithCancel(ctx)
	made := &generation{}
	defer func() {
		if err != nil {
			made.stop(cancel)
		}
	}()
	shared, err := sharing.From(values.Document)
	if err != nil {
		return nil, err
	}
	answer, err := answerOf(values)
	if err != nil {
		return nil, err
	}
	ignored, err := health.Ignored(values.String("disable-healthchecks"))
	if err != nil {
		return nil, err
	}
	made.library, err = gpus.Open(values.String("driver-root-ctr-path"))
	if err != nil {
		made.library = nil
		if values.Bool("fail-on-init-error") {
			return nil, err
		}
		log.Printf("%v. If this is a GPU node, is the driver installed? Waiting indefinitely.", err)
		return made, nil
	}
	host, err := gpus.Read(made.library)
	if err != nil {
		return nil, err
	}
	plan, err := strategy.Build(values.String("mig-strategy"), host.GPUs)
	if err != nil {
		return nil, fmt.Errorf("error building device map: %w", err)
	}
	for _, warning := range plan.Warnings {
		log.Printf("warning: %s", warning)
	}
	devices, err := describe(plan.Resources, shared, gpus.Files{Root: values.String("host-root")})
	if err != nil {
		return nil, err
	}
	if answer.CDI {
		if err := writeSpec(made.library, values); err != nil {
			return nil, fmt.Errorf("unable to create cdi spec file: %w", err)
		}
	}
	if len(devices) == 0 {
		log.Print("No devices found. Waiting indefinitely.")
		return made, nil
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		one := answer
		one.SharedOnly1 = shared.FailRequestsGreaterThanOne && devices[name].shared
		plugin := server.New(name, values.String("kubelet-folder"), devices[name].devices, one)
		if made.unregistered = plugin.Start(ctx); made.unregistered != nil {
			return made, nil
		}
		made.plugins = append(made.plugins, plugin)
	}
	log.Printf("All %d resources are registered", len(made.plugins))
	if ignored != nil {
		made.watch(ctx, host.GPUs, ignored)
	}
	return made, nil
}

func answerOf(values *options.Values) (server.Answer, error) {
	answer := server.Answer{Nodes: values.Bool("pass-device-specs"), CDIName: cdispec.DeviceName}
	for _, way := range values.List("device-list-strategy") {
		switch way {
		case "envvar":
			answer.Environment = true
		case "cdi-cri":
			answer.CDI = true
		default:
			return answer, fmt.Errorf("device list strategy %q is not supported by the lab's device plugin", way)
		}
	}
	for _, node := range controlNodes {
		if _, err := os.Stat(filepath.Join(values.String("host-root"), node)); err == nil {
			answer.CommonNodes = append(answer.CommonNodes, node)
		}
	}
	return answer, nil
}

func writeSpec(library nvml.Interface, values *options.Values) error {
	return cdispec.Spec{
		Library:  library,
		Roots:    cdispec.Roots{InContainer: values.String("driver-root-ctr-path"), OnHost: values.String("nvidia-driver-root")},
		HookPath: values.String("nvidia-cdi-hook-path"),
		Folder:   values.String("cdi-folder"),
	}.Write()
}

// resource is the devices behind one name, in the order of enumeration.
type resource struct {
	devices []server.Device
	shared  bool
}

// describe gives each device its node files and NUMA node, and multiplies those that are shared.
func describe(plan strategy.Resources, shared sharing.TimeSlicing, files gpus.Files) (map[string]resource, error) {
	described := map[string]resource{}
	add := func(name string, isShared bool, device server.Device) {
		entry := described[name]
		entry.devices = append(entry.devices, device)
		entry.shared = entry.shared || isShared
		described[name] = entry
	}
	for name, devices := range plan {
		entry := shared.For(name)
		for position, found := range devices {
			device, err := describeOne(found, files)
			if err != nil {
				return nil, err
			}
			if entry == nil || !entry.Covers(position, found.Index(), found.UUID()) {
				add(name, false, device)
				continue
			}
			target := name
			if entry.Rename != "" {
				target = entry.Rename
			}
			for slice := range entry.Replicas {
				device.ID = fmt.Sprintf("%s::%d", device.UUID, slice)
				add(target, true, device)
			}
		}
	}
	return described, nil
}

func describeOne(found strategy.Device, files gpus.Files) (server.Device, error) {
	device := server.Device{
		ID: found.UUID(), UUID: found.UUID(), NUMA: -1, Healthy: true,
		Nodes: []string{fmt.Sprintf("/dev/nvidia%d", found.GPU.Minor)},
	}
	if node, known := files.NUMANode(found.GPU); known {
		device.NUMA = node
	}
	if found.MIG == nil {
		return device, nil
	}
	// Also where nobody asks for the nodes: the real plugin needs mig-minors for every MIG device.
	capabilities, err := files.CapabilityNodes(found.GPU.Minor, *found.MIG)
	if err != nil {
		return device, fmt.Errorf("error building device map: MIG device %s: %w", found.UUID(), err)
	}
	device.Nodes = append(device.Nodes, capabilities...)
	return device, nil
}

func (g *generation) watch(ctx context.Context, boards []gpus.GPU, ignored map[uint64]bool) {
	g.watchers.Go(func() {
		err := health.Watch(ctx, g.library, boards, ignored, func(uuid string) {
			for _, plugin := range g.plugins {
				plugin.MarkUnhealthy(uuid)
			}
		})
		if err != nil {
			log.Printf("health checks ended: %v", err)
		}
	})
}
