// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package fakekubelet is kubelet's side of the device plugin API: it takes registrations and follows the devices, as a
// kubelet does. Only tests use it.
package fakekubelet

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Kubelet serves one folder of sockets.
type Kubelet struct {
	api.UnimplementedRegistrationServer
	folder string
	server *grpc.Server

	mutex         sync.Mutex
	registrations int
	devices       map[string]map[string]*api.Device // by resource and ID; a plugin that goes leaves an empty map
	clients       map[string]api.DevicePluginClient
	changed       chan struct{}
}

// Start listens on FOLDER/kubelet.sock.
func Start(folder string) (*Kubelet, error) {
	kubelet := &Kubelet{
		folder: folder, server: grpc.NewServer(), devices: map[string]map[string]*api.Device{},
		clients: map[string]api.DevicePluginClient{}, changed: make(chan struct{}),
	}
	listener, err := net.Listen("unix", filepath.Join(folder, "kubelet.sock"))
	if err != nil {
		return nil, err
	}
	api.RegisterRegistrationServer(kubelet.server, kubelet)
	go kubelet.server.Serve(listener)
	return kubelet, nil
}

// Stop ends the service and removes the socket.
func (k *Kubelet) Stop() { k.server.Stop() }

// Register answers a plugin and starts to follow it.
func (k *Kubelet) Register(_ context.Context, request *api.RegisterRequest) (*api.Empty, error) {
	if request.Version != api.Version {
		return nil, fmt.Errorf("unsupported version %s", request.Version)
	}
	target := "unix://" + filepath.Join(k.folder, request.Endpoint)
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	client := api.NewDevicePluginClient(connection)
	stream, err := client.ListAndWatch(context.Background(), &api.Empty{})
	if err != nil {
		return nil, err
	}
	k.update(func() {
		k.registrations++
		k.clients[request.ResourceName] = client
	})
	go func() {
		defer connection.Close()
		for {
			response, err := stream.Recv()
			seen := map[string]*api.Device{}
			for _, device := range response.GetDevices() {
				seen[device.ID] = device
			}
			current := true
			k.update(func() {
				// A stream that ends after its plugin has registered anew says nothing about the new one.
				if current = k.clients[request.ResourceName] == client; current {
					k.devices[request.ResourceName] = seen
				}
			})
			if err != nil || !current {
				return
			}
		}
	}()
	return &api.Empty{}, nil
}

func (k *Kubelet) update(change func()) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	change()
	close(k.changed)
	k.changed = make(chan struct{})
}

// State is what the kubelet knows at one moment.
type State struct {
	Registrations int
	Devices       map[string]map[string]*api.Device
}

// Healthy counts the usable devices per resource; resources without any are left out.
func (s State) Healthy() map[string]int {
	counts := map[string]int{}
	for resource, devices := range s.Devices {
		for _, device := range devices {
			if device.Health == api.Healthy {
				counts[resource]++
			}
		}
	}
	return counts
}

// Wait returns the first state that suits, or what it is when the time is over, with an error.
func (k *Kubelet) Wait(timeout time.Duration, suits func(State) bool) (State, error) {
	over := time.After(timeout)
	for {
		k.mutex.Lock()
		state := State{Registrations: k.registrations, Devices: maps.Clone(k.devices)}
		changed := k.changed
		k.mutex.Unlock()
		if suits(state) {
			return state, nil
		}
		select {
		case <-changed:
		case <-over:
			return state, fmt.Errorf("not within %s; %d registrations, healthy: %v", timeout, state.Registrations, state.Healthy())
		}
	}
}

// Allocate asks the plugin of a resource for devices, for one container.
func (k *Kubelet) Allocate(resource string, ids ...string) (*api.ContainerAllocateResponse, error) {
	k.mutex.Lock()
	client := k.clients[resource]
	k.mutex.Unlock()
	if client == nil {
		return nil, fmt.Errorf("nobody registered %s", resource)
	}
	request := &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}}
	response, err := client.Allocate(context.Background(), request)
	if err != nil {
		return nil, err
	}
	return response.ContainerResponses[0], nil
}
