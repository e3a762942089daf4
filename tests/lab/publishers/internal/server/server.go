// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package server is one resource of the device plugin: its gRPC service, its socket and its registration with kubelet.
package server

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const registrationTimeout = 5 * time.Second

// Device is one allocatable unit. Several with different IDs may stand for one UUID: time slices of it.
type Device struct {
	ID      string
	UUID    string
	NUMA    int64 // -1: unknown
	Nodes   []string
	Healthy bool
}

// Answer says how an allocation is put into the container.
type Answer struct {
	Environment bool // NVIDIA_VISIBLE_DEVICES, for the nvidia runtime
	CDI         bool // CDI device names, for the container runtime itself
	Nodes       bool // device nodes, for kubelet with the static CPU manager
	CDIName     func(uuid string) string
	SharedOnly1 bool // refuse more than one slice
	CommonNodes []string
}

// Plugin serves one resource.
type Plugin struct {
	api.UnimplementedDevicePluginServer
	resource string
	folder   string
	answer   Answer
	grpc     *grpc.Server

	mutex   sync.Mutex
	devices []Device
	changed chan struct{} // closed and replaced at each change of health
	stop    chan struct{}
}

// New prepares a plugin; folder is kubelet's device-plugins folder.
func New(resource, folder string, devices []Device, answer Answer) *Plugin {
	return &Plugin{
		resource: resource, folder: folder, answer: answer, devices: devices,
		changed: make(chan struct{}), stop: make(chan struct{}),
	}
}

func (p *Plugin) socket() string {
	return filepath.Join(p.folder, "nvidia-"+strings.TrimPrefix(p.resource, "nvidia.com/")+".sock")
}

// Start serves the socket and registers it.
func (p *Plugin) Start(ctx context.Context) error {
	if err := os.Remove(p.socket()); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", p.socket())
	if err != nil {
		return fmt.Errorf("could not start device plugin for '%s': %w", p.resource, err)
	}
	p.grpc = grpc.NewServer()
	api.RegisterDevicePluginServer(p.grpc, p)
	go func() {
		if err := p.grpc.Serve(listener); err != nil {
			log.Printf("the server of '%s' ended: %v", p.resource, err)
		}
	}()
	log.Printf("Starting to serve '%s' on %s", p.resource, p.socket())
	if err := p.register(ctx); err != nil {
		p.Stop()
		return fmt.Errorf("could not register device plugin for '%s': %w", p.resource, err)
	}
	log.Printf("Registered device plugin for '%s' with Kubelet, %d devices", p.resource, len(p.devices))
	return nil
}

// Stop ends the streams and removes the socket; kubelet then takes the devices as unhealthy.
func (p *Plugin) Stop() {
	close(p.stop)
	p.grpc.Stop() // closes the listener, which removes the socket
}

func (p *Plugin) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTimeout)
	defer cancel()
	kubelet := "unix://" + filepath.Join(p.folder, filepath.Base(api.KubeletSocket))
	connection, err := grpc.NewClient(kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     filepath.Base(p.socket()),
		ResourceName: p.resource,
		Options:      options(),
	})
	return err
}

func options() *api.DevicePluginOptions { return &api.DevicePluginOptions{} }

// MarkUnhealthy takes devices out of use for good: a restart alone brings them back.
func (p *Plugin) MarkUnhealthy(uuid string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	known := false
	for i := range p.devices {
		if p.devices[i].UUID == uuid {
			p.devices[i].Healthy = false
			known = true
		}
	}
	if known {
		log.Printf("'%s' device marked unhealthy: %s", p.resource, uuid)
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *Plugin) list() (*api.ListAndWatchResponse, <-chan struct{}) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	response := &api.ListAndWatchResponse{}
	for _, device := range p.devices {
		entry := &api.Device{ID: device.ID, Health: api.Healthy}
		if !device.Healthy {
			entry.Health = api.Unhealthy
		}
		if device.NUMA >= 0 {
			entry.Topology = &api.TopologyInfo{Nodes: []*api.NUMANode{{ID: device.NUMA}}}
		}
		response.Devices = append(response.Devices, entry)
	}
	return response, p.changed
}

// GetDevicePluginOptions tells kubelet that neither preferred allocations nor a call before start are offered.
func (p *Plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return options(), nil
}

// ListAndWatch sends the devices now and at each change of their health.
func (p *Plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	for {
		response, changed := p.list()
		if err := stream.Send(response); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-p.stop:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// Allocate says how the chosen devices get into the container.
func (p *Plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		one, err := p.allocate(container.DevicesIds)
		if err != nil {
			return nil, err
		}
		response.ContainerResponses = append(response.ContainerResponses, one)
	}
	return response, nil
}

func (p *Plugin) allocate(ids []string) (*api.ContainerAllocateResponse, error) {
	if p.answer.SharedOnly1 && len(ids) > 1 {
		return nil, fmt.Errorf("request for '%s: %d' too large: maximum request size for shared resources is 1",
			p.resource, len(ids))
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var uuids, nodes []string
	for _, id := range ids {
		at := slices.IndexFunc(p.devices, func(device Device) bool { return device.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("invalid allocation request for '%s': unknown device: %s", p.resource, id)
		}
		if uuid := p.devices[at].UUID; !slices.Contains(uuids, uuid) {
			uuids = append(uuids, uuid)
			nodes = append(nodes, p.devices[at].Nodes...)
		}
	}
	response := &api.ContainerAllocateResponse{}
	if p.answer.Environment {
		response.Envs = map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(uuids, ",")}
	}
	if p.answer.CDI {
		for _, uuid := range uuids {
			response.CdiDevices = append(response.CdiDevices, &api.CDIDevice{Name: p.answer.CDIName(uuid)})
		}
	}
	if p.answer.Nodes {
		for _, node := range append(slices.Clone(p.answer.CommonNodes), nodes...) {
			response.Devices = append(response.Devices,
				&api.DeviceSpec{ContainerPath: node, HostPath: node, Permissions: "rw"})
		}
	}
	return response, nil
}

// GetPreferredAllocation is not offered; kubelet does not ask.
func (p *Plugin) GetPreferredAllocation(
	context.Context, *api.PreferredAllocationRequest,
) (*api.PreferredAllocationResponse, error) {
	return &api.PreferredAllocationResponse{}, nil
}

// PreStartContainer has nothing to do.
func (p *Plugin) PreStartContainer(
	context.Context, *api.PreStartContainerRequest,
) (*api.PreStartContainerResponse, error) {
	return &api.PreStartContainerResponse{}, nil
}
