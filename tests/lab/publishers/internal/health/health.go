// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package health listens to the driver's Xid events and says which devices they make unusable.
package health

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"gpufleet.io/lab/publishers/internal/gpus"
)

// waitMillis bounds how long a restart or the end of the program waits for NVML.
const waitMillis = 200

// applicationErrors are Xids that a program causes by itself; the device stays usable.
var applicationErrors = []uint64{13, 31, 43, 45, 68, 109}

// noInstance is what NVML says for an event that concerns the whole GPU.
const noInstance = 0xFFFFFFFF

// Ignored reads DP_DISABLE_HEALTHCHECKS: "all" or "xids" turns the watch off (nil), a list adds Xids to be ignored.
func Ignored(setting string) (map[uint64]bool, error) {
	ignored := map[uint64]bool{}
	for _, xid := range applicationErrors {
		ignored[xid] = true
	}
	for _, word := range strings.Split(setting, ",") {
		switch word = strings.ToLower(strings.TrimSpace(word)); word {
		case "":
		case "all", "xids":
			return nil, nil
		default:
			xid, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("DP_DISABLE_HEALTHCHECKS: %q is no Xid", word)
			}
			ignored[xid] = true
		}
	}
	return ignored, nil
}

// Watch calls unhealthy with the UUID of a GPU or MIG device after each critical event, until ctx ends.
func Watch(ctx context.Context, library nvml.Interface, boards []gpus.GPU, ignored map[uint64]bool,
	unhealthy func(uuid string),
) error {
	set, result := library.EventSetCreate()
	if result != nvml.SUCCESS {
		return fmt.Errorf("failed to create event set: %w", result)
	}
	defer set.Free()
	const wanted = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError
	for _, board := range boards {
		supported, result := board.Handle.GetSupportedEventTypes()
		if result == nvml.SUCCESS {
			result = board.Handle.RegisterEvents(wanted&supported, set)
		}
		if result != nvml.SUCCESS {
			log.Printf("GPU %d (%s) cannot be watched for errors: %v", board.Index, board.UUID, result)
		}
	}
	for ctx.Err() == nil {
		event, result := set.Wait(waitMillis)
		switch {
		case result == nvml.ERROR_TIMEOUT:
			continue
		case result != nvml.SUCCESS:
			log.Printf("error waiting for events: %v; marking all devices as unhealthy", result)
			for _, board := range boards {
				report(board, noInstance, noInstance, unhealthy)
			}
			return fmt.Errorf("error waiting for events: %w", result)
		case event.EventType != nvml.EventTypeXidCriticalError || ignored[event.EventData]:
			log.Printf("event ignored: type %d, Xid %d", event.EventType, event.EventData)
			continue
		}
		uuid, result := event.Device.GetUUID()
		for _, board := range boards {
			if result != nvml.SUCCESS || board.UUID == uuid {
				log.Printf("critical Xid %d on GPU %d (%s)", event.EventData, board.Index, board.UUID)
				report(board, event.GpuInstanceId, event.ComputeInstanceId, unhealthy)
			}
		}
	}
	return nil
}

// report tells of the devices of a board that an event concerns: one MIG device, or all and the board itself.
func report(board gpus.GPU, gi, ci uint32, unhealthy func(uuid string)) {
	everything := gi == noInstance || ci == noInstance || !board.MIGEnabled
	if everything {
		unhealthy(board.UUID)
	}
	for _, part := range board.MIGDevices {
		if everything || (uint32(part.GI) == gi && uint32(part.CI) == ci) {
			unhealthy(part.UUID)
		}
	}
}
