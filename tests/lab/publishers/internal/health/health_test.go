// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package health_test

import (
	"context"
	"slices"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"gpufleet.io/lab/publishers/internal/gpus"
	"gpufleet.io/lab/publishers/internal/health"
)

const wholeGPU = 0xFFFFFFFF

// marked plays events of one GPU with two MIG devices and one without MIG, and returns what became unhealthy.
func marked(t *testing.T, ignored map[uint64]bool, last nvml.Return, events ...nvml.EventData) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	set := &mock.EventSet{
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			if len(events) == 0 {
				cancel()
				return nvml.EventData{}, last
			}
			event := events[0]
			events = events[1:]
			return event, nvml.SUCCESS
		},
	}
	library := &mock.Interface{EventSetCreateFunc: func() (nvml.EventSet, nvml.Return) { return set, nvml.SUCCESS }}
	boards := []gpus.GPU{
		{Index: 0, UUID: "GPU-mig", MIGEnabled: true, Handle: device("GPU-mig"), MIGDevices: []gpus.MIGDevice{
			{UUID: "MIG-a", GI: 3, CI: 0}, {UUID: "MIG-b", GI: 5, CI: 0},
		}},
		{Index: 1, UUID: "GPU-full", Handle: device("GPU-full")},
	}
	var found []string
	err := health.Watch(ctx, library, boards, ignored, func(uuid string) { found = append(found, uuid) })
	if (err == nil) != (last == nvml.ERROR_TIMEOUT) {
		t.Fatalf("ended with %v", err)
	}
	slices.Sort(found)
	return found
}

func device(uuid string) *mock.Device {
	return &mock.Device{
		GetUUIDFunc:                func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetSupportedEventTypesFunc: func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS },
		RegisterEventsFunc:         func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS },
	}
}

func xid(uuid string, number uint64, gi, ci uint32) nvml.EventData {
	return nvml.EventData{
		Device: device(uuid), EventType: nvml.EventTypeXidCriticalError, EventData: number,
		GpuInstanceId: gi, ComputeInstanceId: ci,
	}
}

func TestWhatAnEventTakesOut(t *testing.T) {
	ignored, err := health.Ignored("74")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"GPU-full", "GPU-mig", "MIG-a", "MIG-b"}
	for name, test := range map[string]struct {
		event nvml.EventData
		last  nvml.Return
		want  []string
	}{
		"one instance":           {xid("GPU-mig", 79, 5, 0), nvml.ERROR_TIMEOUT, []string{"MIG-b"}},
		"instance nobody knows":  {xid("GPU-mig", 79, 9, 0), nvml.ERROR_TIMEOUT, nil},
		"whole MIG GPU":          {xid("GPU-mig", 79, wholeGPU, wholeGPU), nvml.ERROR_TIMEOUT, []string{"GPU-mig", "MIG-a", "MIG-b"}},
		"GPU without MIG":        {xid("GPU-full", 79, wholeGPU, wholeGPU), nvml.ERROR_TIMEOUT, []string{"GPU-full"}},
		"fault of a program":     {xid("GPU-full", 31, wholeGPU, wholeGPU), nvml.ERROR_TIMEOUT, nil},
		"ignored by the setting": {xid("GPU-full", 74, wholeGPU, wholeGPU), nvml.ERROR_TIMEOUT, nil},
		"other kind of event":    {nvml.EventData{Device: device("GPU-full"), EventType: nvml.EventTypeSingleBitEccError}, nvml.ERROR_TIMEOUT, nil},
		"lost driver":            {xid("GPU-full", 31, wholeGPU, wholeGPU), nvml.ERROR_GPU_IS_LOST, all},
	} {
		t.Run(name, func(t *testing.T) {
			if found := marked(t, ignored, test.last, test.event); !slices.Equal(found, test.want) {
				t.Fatalf("unhealthy: %v, want %v", found, test.want)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	for _, off := range []string{"all", "xids", "XIDS"} {
		if ignored, err := health.Ignored(off); err != nil || ignored != nil {
			t.Errorf("%s: %v, %v", off, ignored, err)
		}
	}
	if _, err := health.Ignored("often"); err == nil {
		t.Error("a word was taken for an Xid")
	}
}
