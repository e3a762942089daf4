// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package sharing is the time-slicing part of a configuration file: which resources are handed out several times.
package sharing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Prefix of every resource name that the publishers use.
const Prefix = "nvidia.com/"

// Entry says how one resource is shared.
type Entry struct {
	Name     string `json:"name"`
	Rename   string `json:"rename"`
	Devices  any    `json:"devices"` // "all" (also when absent), a number of devices, or a list of indices and UUIDs
	Replicas int    `json:"replicas"`
}

// TimeSlicing is sharing.timeSlicing of the configuration file. The zero value shares nothing.
type TimeSlicing struct {
	RenameByDefault            bool    `json:"renameByDefault"`
	FailRequestsGreaterThanOne bool    `json:"failRequestsGreaterThanOne"`
	Resources                  []Entry `json:"resources"`
}

// From reads the configuration document; nil and a document without sharing share nothing.
func From(document map[string]any) (TimeSlicing, error) {
	var file struct {
		Sharing struct {
			TimeSlicing TimeSlicing     `json:"timeSlicing"`
			MPS         json.RawMessage `json:"mps"`
		} `json:"sharing"`
	}
	text, err := json.Marshal(document)
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		return TimeSlicing{}, fmt.Errorf("invalid sharing configuration: %w", err)
	}
	if len(file.Sharing.MPS) > 0 && string(file.Sharing.MPS) != "null" {
		return TimeSlicing{}, fmt.Errorf("sharing.mps is not supported by the lab's publishers")
	}
	shared := file.Sharing.TimeSlicing
	for i := range shared.Resources {
		entry := &shared.Resources[i]
		if entry.Replicas < 2 {
			return TimeSlicing{}, fmt.Errorf("sharing of %s: number of replicas must be >= 2", entry.Name)
		}
		entry.Name = full(entry.Name)
		entry.Rename = full(entry.Rename)
		if entry.Rename == "" && shared.RenameByDefault {
			entry.Rename = entry.Name + ".shared"
		}
	}
	return shared, nil
}

// For returns how a resource (with its prefix) is shared, nil where it is not.
func (t TimeSlicing) For(resource string) *Entry {
	for i := range t.Resources {
		if t.Resources[i].Name == resource {
			return &t.Resources[i]
		}
	}
	return nil
}

// Covers says whether the device at a position among those of its resource is shared.
func (e Entry) Covers(position int, index, uuid string) bool {
	switch wanted := e.Devices.(type) {
	case nil:
		return true
	case string:
		return wanted == "all"
	case float64:
		return position < int(wanted)
	case []any:
		return slices.ContainsFunc(wanted, func(item any) bool {
			if number, isNumber := item.(float64); isNumber {
				return strconv.Itoa(int(number)) == index
			}
			return item == uuid || item == index
		})
	}
	return false
}

func full(name string) string {
	if name == "" || strings.HasPrefix(name, Prefix) {
		return name
	}
	return Prefix + name
}
