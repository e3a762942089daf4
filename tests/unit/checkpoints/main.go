//go:build ignore

// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Writes device-plugin checkpoints with the code of kubelet 1.36.3 itself: one folder per case, and in it the file that
// lies here as CASE.json. Copy go.mod and go.sum of tests/lab/go/kubernetes beside it, then:
//   GOFLAGS=-mod=mod go run main.go OUTPUT
package main

import (
	"os"
	"path/filepath"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"google.golang.org/protobuf/proto"
	"k8s.io/kubernetes/pkg/kubelet/checkpointmanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint"
)

func entry(pod, container, resource string, devices checkpoint.DevicesPerNUMA) checkpoint.PodDevicesEntry {
	response := &pluginapi.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": "void"}}
	for _, ids := range devices {
		for _, id := range ids {
			response.CdiDevices = append(response.CdiDevices, &pluginapi.CDIDevice{Name: "k8s.device-plugin.nvidia.com/" + id})
		}
	}
	blob, err := proto.Marshal(response)
	if err != nil {
		panic(err)
	}
	return checkpoint.PodDevicesEntry{PodUID: pod, ContainerName: container, ResourceName: resource, DeviceIDs: devices, AllocResp: blob}
}

func main() {
	const a, b, c = "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0001", "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f0002", "5f4dcc3b5aa765d61d8327deb882cf99"
	const first, second = "MIG-11111111-0000-5000-8000-000000000001", "MIG-11111111-0000-5000-8000-000000000002"
	const gpu = "GPU-22222222-0000-5000-8000-000000000001"
	cases := map[string]checkpoint.DeviceManagerCheckpoint{
		"empty":   checkpoint.New(nil, map[string][]string{}),
		"nothing": checkpoint.New([]checkpoint.PodDevicesEntry{}, nil),
		"mixed": checkpoint.New([]checkpoint.PodDevicesEntry{
			entry(a, "train", "nvidia.com/mig-1g.5gb", checkpoint.DevicesPerNUMA{0: {first}}),
			entry(b, "serve", "nvidia.com/mig-2g.10gb", checkpoint.DevicesPerNUMA{-1: {second}}),
			entry(b, "net", "example.com/nic", checkpoint.DevicesPerNUMA{0: {"0000:3b:02.1"}, 1: {"0000:d8:02.1"}}),
		}, map[string][]string{"nvidia.com/mig-2g.10gb": {second}, "nvidia.com/mig-1g.5gb": {first}, "example.com/nic": {}}),
		"shared": checkpoint.New([]checkpoint.PodDevicesEntry{
			entry(a, "train", "nvidia.com/gpu.shared", checkpoint.DevicesPerNUMA{0: {gpu + "::3"}}),
			entry(c, "etcd <&>", "nvidia.com/gpu.shared", checkpoint.DevicesPerNUMA{10: {gpu + "::0"}, 2: {gpu + "::1"}}),
			{PodUID: b, ContainerName: "ünï", ResourceName: "nvidia.com/gpu.shared", DeviceIDs: nil, AllocResp: nil},
			{PodUID: b, ContainerName: "x", ResourceName: "nvidia.com/gpu.shared", DeviceIDs: checkpoint.DevicesPerNUMA{0: nil, 1: {}}, AllocResp: []byte{}},
		}, map[string][]string{"nvidia.com/gpu.shared": {gpu + "::0", gpu + "::1", gpu + "::2", gpu + "::3"}, "nvidia.com/gpu": nil}),
	}
	for name, data := range cases {
		folder := filepath.Join(os.Args[1], name)
		manager, err := checkpointmanager.NewCheckpointManager(folder)
		if err != nil {
			panic(err)
		}
		if err := manager.CreateCheckpoint("kubelet_internal_checkpoint", data); err != nil {
			panic(err)
		}
	}
}
