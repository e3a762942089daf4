// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package e2e

import (
	"encoding/json"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"gpufleet.io/lab/publishers/internal/captures"
)

// layoutVariable carries a captured host's boards to the process that makes them so.
const layoutVariable = "PUBLISHERS_TEST_LAYOUT"

// layOut brings the GPUs of a state into a captured layout through NVML, from whatever stands.
func layOut(text string) error {
	var boards []captures.Board
	if err := json.Unmarshal([]byte(text), &boards); err != nil {
		return err
	}
	products, err := captures.Products()
	if err != nil {
		return err
	}
	library := nvml.New()
	if result := library.Init(); result != nvml.SUCCESS {
		return fmt.Errorf("init: %w", result)
	}
	defer library.Shutdown()
	for index, board := range boards {
		device, result := library.DeviceGetHandleByIndex(index)
		if result != nvml.SUCCESS {
			return fmt.Errorf("GPU %d: %w", index, result)
		}
		if err := layOutBoard(device, board, products[board.Product]); err != nil {
			return fmt.Errorf("GPU %d: %w", index, err)
		}
	}
	return nil
}

func layOutBoard(device nvml.Device, board captures.Board, product captures.Product) error {
	if err := clear(device, product); err != nil {
		return err
	}
	mode := nvml.DEVICE_MIG_DISABLE
	if board.MIGEnabled {
		mode = nvml.DEVICE_MIG_ENABLE
	}
	if current, _, _ := device.GetMigMode(); current != mode {
		if activation, result := device.SetMigMode(mode); result != nvml.SUCCESS || activation != nvml.SUCCESS {
			return fmt.Errorf("MIG mode %d: %w, activation %w", mode, result, activation)
		}
	}
	for _, wanted := range board.Instances {
		profile, _, err := product.Find(wanted.Profile, "")
		if err != nil {
			return err
		}
		place := nvml.GpuInstancePlacement{Start: uint32(wanted.Start), Size: profile.Placements.Size}
		info := nvml.GpuInstanceProfileInfo{Id: uint32(profile.ID)}
		instance, result := device.CreateGpuInstanceWithPlacement(&info, &place)
		if result != nvml.SUCCESS {
			return fmt.Errorf("%s at %d: %w", wanted.Profile, wanted.Start, result)
		}
		for _, name := range wanted.ComputeInstances {
			_, compute, err := product.Find(wanted.Profile, name)
			if err != nil {
				return err
			}
			if _, result := instance.CreateComputeInstance(&nvml.ComputeInstanceProfileInfo{Id: uint32(compute.ID)}); result != nvml.SUCCESS {
				return fmt.Errorf("%s in %s at %d: %w", name, wanted.Profile, wanted.Start, result)
			}
		}
	}
	return nil
}

// clear destroys what stands.
func clear(device nvml.Device, product captures.Product) error {
	if current, _, result := device.GetMigMode(); result != nvml.SUCCESS || current != nvml.DEVICE_MIG_ENABLE {
		return nil
	}
	for _, profile := range product.Profiles {
		info := nvml.GpuInstanceProfileInfo{Id: uint32(profile.ID), InstanceCount: 8}
		instances, result := device.GetGpuInstances(&info)
		if result != nvml.SUCCESS {
			return fmt.Errorf("list %s: %w", profile.Name, result)
		}
		for _, instance := range instances {
			for _, compute := range product.ComputeProfiles[profile.Name] {
				info := nvml.ComputeInstanceProfileInfo{Id: uint32(compute.ID), InstanceCount: 8}
				parts, result := instance.GetComputeInstances(&info)
				if result != nvml.SUCCESS {
					return fmt.Errorf("list %s: %w", compute.Name, result)
				}
				for _, part := range parts {
					if result := part.Destroy(); result != nvml.SUCCESS {
						return fmt.Errorf("destroy %s: %w", compute.Name, result)
					}
				}
			}
			if result := instance.Destroy(); result != nvml.SUCCESS {
				return fmt.Errorf("destroy %s: %w", profile.Name, result)
			}
		}
	}
	return nil
}
