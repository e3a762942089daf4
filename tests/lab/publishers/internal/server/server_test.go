// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package server_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"gpufleet.io/lab/publishers/internal/fakekubelet"
	"gpufleet.io/lab/publishers/internal/server"
)

const resource = "nvidia.com/mig-1g.5gb"

func start(t *testing.T, answer server.Answer, devices ...server.Device) (*server.Plugin, *fakekubelet.Kubelet) {
	t.Helper()
	folder := t.TempDir()
	kubelet, err := fakekubelet.Start(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kubelet.Stop)
	plugin := server.New(resource, folder, devices, answer)
	if err := plugin.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return plugin, kubelet
}

func healthy(t *testing.T, kubelet *fakekubelet.Kubelet, count int) fakekubelet.State {
	t.Helper()
	state, err := kubelet.Wait(5*time.Second, func(s fakekubelet.State) bool { return s.Healthy()[resource] == count })
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestKubeletSeesDevicesTheirHealthAndTheirEnd(t *testing.T) {
	plugin, kubelet := start(t, server.Answer{},
		server.Device{ID: "MIG-a", UUID: "MIG-a", NUMA: 1, Healthy: true},
		server.Device{ID: "MIG-b", UUID: "MIG-b", NUMA: -1, Healthy: true})
	state := healthy(t, kubelet, 2)
	if nodes := state.Devices[resource]["MIG-a"].GetTopology().GetNodes(); len(nodes) != 1 || nodes[0].ID != 1 {
		t.Fatalf("NUMA nodes of MIG-a: %v", nodes)
	}
	if state.Devices[resource]["MIG-b"].Topology != nil {
		t.Fatal("MIG-b has a NUMA node that nobody knows")
	}
	plugin.MarkUnhealthy("MIG-b")
	healthy(t, kubelet, 1)
	plugin.Stop()
	healthy(t, kubelet, 0)
}

func TestAllocationByEveryWay(t *testing.T) {
	answer := server.Answer{
		Environment: true, CDI: true, Nodes: true, CommonNodes: []string{"/dev/nvidiactl"},
		CDIName: func(uuid string) string { return "vendor/gpu=" + uuid },
	}
	plugin, kubelet := start(t, answer,
		server.Device{ID: "GPU-a::0", UUID: "GPU-a", NUMA: -1, Healthy: true, Nodes: []string{"/dev/nvidia0"}},
		server.Device{ID: "GPU-a::1", UUID: "GPU-a", NUMA: -1, Healthy: true, Nodes: []string{"/dev/nvidia0"}},
		server.Device{ID: "GPU-b", UUID: "GPU-b", NUMA: -1, Healthy: true, Nodes: []string{"/dev/nvidia1"}})
	t.Cleanup(plugin.Stop)
	healthy(t, kubelet, 3)
	response, err := kubelet.Allocate(resource, "GPU-a::0", "GPU-b", "GPU-a::1")
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Envs["NVIDIA_VISIBLE_DEVICES"]; got != "GPU-a,GPU-b" {
		t.Fatalf("NVIDIA_VISIBLE_DEVICES=%s", got)
	}
	var names, nodes []string
	for _, device := range response.CdiDevices {
		names = append(names, device.Name)
	}
	for _, node := range response.Devices {
		nodes = append(nodes, node.HostPath)
	}
	if want := []string{"vendor/gpu=GPU-a", "vendor/gpu=GPU-b"}; !reflect.DeepEqual(names, want) {
		t.Fatalf("CDI devices %v", names)
	}
	if want := []string{"/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"}; !reflect.DeepEqual(nodes, want) {
		t.Fatalf("device nodes %v", nodes)
	}
}

func TestAllocationIsRefused(t *testing.T) {
	plugin, kubelet := start(t, server.Answer{SharedOnly1: true},
		server.Device{ID: "GPU-a::0", UUID: "GPU-a", NUMA: -1, Healthy: true},
		server.Device{ID: "GPU-a::1", UUID: "GPU-a", NUMA: -1, Healthy: true})
	t.Cleanup(plugin.Stop)
	healthy(t, kubelet, 2)
	for text, ids := range map[string][]string{
		"unknown device: GPU-gone":    {"GPU-gone"},
		"shared resources is 1":       {"GPU-a::0", "GPU-a::1"},
		"invalid allocation request ": {"MIG-dead"},
	} {
		if _, err := kubelet.Allocate(resource, ids...); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v", ids, err)
		}
	}
}
