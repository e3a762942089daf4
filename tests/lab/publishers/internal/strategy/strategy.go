// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package strategy turns the GPUs of a host into the resources that the device plugin registers. Pure.
package strategy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gpufleet.io/lab/publishers/internal/gpus"
)

// The strategies for MIG devices.
const (
	None   = "none"
	Single = "single"
	Mixed  = "mixed"
)

const fullGPU = "nvidia.com/gpu"

// partialInstance matches profiles of compute instances that do not fill their GPU instance. No resource name exists
// for them: the names stand for whole GPU instances.
var partialInstance = regexp.MustCompile(`^\d+c\.`)

// Device is one allocatable thing: a GPU or one of its MIG devices.
type Device struct {
	GPU gpus.GPU
	MIG *gpus.MIGDevice // nil: the whole GPU
}

// UUID names the device for kubelet and for the container runtime.
func (d Device) UUID() string {
	if d.MIG != nil {
		return d.MIG.UUID
	}
	return d.GPU.UUID
}

// Index is "0" for a GPU and "0:1" for a MIG device.
func (d Device) Index() string {
	if d.MIG != nil {
		return fmt.Sprintf("%d:%d", d.GPU.Index, d.MIG.Position)
	}
	return strconv.Itoa(d.GPU.Index)
}

// Resources are the devices per resource name; a name without devices is not in it.
type Resources map[string][]Device

// Plan is what to register, with what the log should say beside.
type Plan struct {
	Resources Resources
	Warnings  []string
}

// Build applies a strategy. An error means that the node's GPUs do not suit it; the plugin then ends.
func Build(strategy string, boards []gpus.GPU) (Plan, error) {
	switch strategy {
	case None:
		return Plan{Resources: whole(boards, func(gpus.GPU) bool { return true })}, nil
	case Single:
		return single(boards)
	case Mixed:
		return mixed(boards)
	}
	return Plan{}, fmt.Errorf("unknown MIG strategy: %s", strategy)
}

// ResourceName is how a profile is called as a resource: '+' is not allowed there.
func ResourceName(profile string) string {
	return "nvidia.com/mig-" + strings.ReplaceAll(profile, "+", ".")
}

func whole(boards []gpus.GPU, keep func(gpus.GPU) bool) Resources {
	resources := Resources{}
	for _, board := range boards {
		if keep(board) {
			resources[fullGPU] = append(resources[fullGPU], Device{GPU: board})
		}
	}
	return resources
}

// single announces MIG devices as GPUs, so all must be alike and no GPU may be without. The real plugin looks for
// empty GPUs first, then for different devices, then for GPUs with MIG off.
func single(boards []gpus.GPU) (Plan, error) {
	enabled := 0
	for _, board := range boards {
		if !board.MIGEnabled {
			continue
		}
		enabled++
		if len(board.MIGDevices) == 0 {
			return Plan{}, fmt.Errorf(
				"invalid MIG configuration: at least one device with migEnabled=true was not configured correctly: "+
					"error visiting device: device %d has no MIG devices configured", board.Index)
		}
	}
	if enabled == 0 {
		return Build(None, boards)
	}
	resources := Resources{}
	for _, board := range boards {
		for i := range board.MIGDevices {
			found := Device{GPU: board, MIG: &board.MIGDevices[i]}
			if known := resources[fullGPU]; len(known) > 0 && known[0].MIG.Attributes != found.MIG.Attributes {
				return Plan{}, fmt.Errorf(
					"invalid MIG configuration: error visiting devices: more than one MIG device type present on node")
			}
			resources[fullGPU] = append(resources[fullGPU], found)
		}
	}
	if enabled < len(boards) {
		return Plan{}, fmt.Errorf("all devices on the node must be configured with the same migEnabled value")
	}
	return Plan{Resources: resources}, nil
}

func mixed(boards []gpus.GPU) (Plan, error) {
	plan := Plan{Resources: whole(boards, func(board gpus.GPU) bool { return !board.MIGEnabled })}
	for _, board := range boards {
		if board.MIGEnabled && len(board.MIGDevices) == 0 {
			plan.Warnings = append(plan.Warnings,
				fmt.Sprintf("MIG is enabled on GPU %d (%s) but it has no MIG devices configured", board.Index, board.UUID))
		}
		for i := range board.MIGDevices {
			found := Device{GPU: board, MIG: &board.MIGDevices[i]}
			if partialInstance.MatchString(found.MIG.Profile) {
				return Plan{}, fmt.Errorf(
					"error building MIG device map: error visiting MIG device: "+
						"MIG profile '%s' does not match any resource patterns", found.MIG.Profile)
			}
			name := ResourceName(found.MIG.Profile)
			plan.Resources[name] = append(plan.Resources[name], found)
		}
	}
	return plan, nil
}
