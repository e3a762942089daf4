// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package captures reads what the real device plugin and feature discovery published (facts/captured_publishers.json),
// and the product facts behind it. Only tests use it.
package captures

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sigs.k8s.io/yaml"
)

// Capture is one state of a host under one strategy.
type Capture struct {
	Case               string
	Host               []Board
	Strategy           string
	DriverVersion      string              `json:"driver_version"`
	CudaVersion        string              `json:"cuda_version"`
	Resources          map[string]int      // nil: the plugin exited
	PluginError        *string             `json:"plugin_error"`
	Labels             map[string]string   // without the timestamp
	LabelsAlternatives []map[string]string `json:"labels_alternatives"`
}

// Name tells captures apart.
func (c Capture) Name() string { return c.Case + "/" + c.Strategy }

// Board is one GPU of a captured host.
type Board struct {
	Product    string
	MIGEnabled bool `json:"mig_enabled"`
	Instances  []Instance
}

// Instance is a GPU instance with its compute instances; there may be none.
type Instance struct {
	Profile          string
	Start            int
	ComputeInstances []string `json:"compute_instances"`
}

// Product is the part of facts/mig_products.yaml that matters here.
type Product struct {
	Key, Name         string
	MemoryMiB         uint64               `json:"memory_mib"`
	ComputeCapability string               `json:"compute_capability"`
	Profiles          []Profile            `json:"gi_profiles"`
	ComputeProfiles   map[string][]Compute `json:"ci_profiles"`
}

// Profile is a GPU instance profile.
type Profile struct {
	Name           string
	ID             int
	Slices         uint32
	MemoryMiB      uint64 `json:"memory_mib"`
	SM             uint32
	CE, Dec, Enc   uint32
	JPEG, OFA      uint32
	Placements     struct{ Size uint32 }
	MemoryMiBOlder []uint64 `json:"memory_mib_alt"`
}

// Compute is a compute instance profile.
type Compute struct {
	Name   string
	ID     int
	Slices uint32
	SM     *uint32
}

// Read returns all captures.
func Read() ([]Capture, error) {
	text, err := os.ReadFile(facts("captured_publishers.json"))
	if err != nil {
		return nil, err
	}
	var all []Capture
	return all, json.Unmarshal(text, &all)
}

// Products returns the product facts by key.
func Products() (map[string]Product, error) {
	text, err := os.ReadFile(facts("mig_products.yaml"))
	if err != nil {
		return nil, err
	}
	var file struct{ Products []Product }
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	byKey := map[string]Product{}
	for _, product := range file.Products {
		byKey[product.Key] = product
	}
	return byKey, nil
}

// Find returns a profile and one of its compute profiles. The compute profile may be called by an alias: the name of
// the GPU instance itself stands for the one that fills it.
func (p Product) Find(instance, compute string) (Profile, Compute, error) {
	for _, profile := range p.Profiles {
		if profile.Name != instance {
			continue
		}
		if compute == "" {
			return profile, Compute{}, nil
		}
		for _, part := range p.ComputeProfiles[instance] {
			if part.Name == compute {
				return profile, part, nil
			}
		}
		return profile, Compute{}, fmt.Errorf("%s has no compute profile %s in %s", p.Key, compute, instance)
	}
	return Profile{}, Compute{}, fmt.Errorf("%s has no profile %s", p.Key, instance)
}

// SameEnding compares errors by their ends: what stands before is a chain of wrappers.
func SameEnding(real, ours string) bool {
	last := real[strings.LastIndex(real, ": ")+2:]
	return strings.HasSuffix(strings.TrimSpace(ours), last)
}

func facts(name string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..", "..", "..", "facts", name)
}
