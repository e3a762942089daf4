// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package sharing_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"gpufleet.io/lab/publishers/internal/sharing"
)

func from(t *testing.T, text string) (sharing.TimeSlicing, error) {
	t.Helper()
	document := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	return sharing.From(document)
}

func TestNamesAndReplicas(t *testing.T) {
	shared, err := from(t, `
sharing:
  timeSlicing:
    renameByDefault: true
    resources:
      - {name: nvidia.com/gpu, replicas: 4, devices: [0, GPU-x]}
      - {name: mig-1g.5gb, rename: small, replicas: 2}
`)
	if err != nil {
		t.Fatal(err)
	}
	gpu, small := shared.For("nvidia.com/gpu"), shared.For("nvidia.com/mig-1g.5gb")
	if gpu == nil || gpu.Rename != "nvidia.com/gpu.shared" || gpu.Replicas != 4 {
		t.Fatalf("%+v", gpu)
	}
	if small == nil || small.Rename != "nvidia.com/small" || !small.Covers(9, "9:0", "MIG-x") {
		t.Fatalf("%+v", small)
	}
	if !gpu.Covers(0, "0", "GPU-a") || gpu.Covers(1, "1", "GPU-b") || !gpu.Covers(2, "2", "GPU-x") {
		t.Fatal("the list of devices is not kept to")
	}
	if shared.For("nvidia.com/mig-2g.10gb") != nil {
		t.Fatal("a resource is shared that nobody named")
	}
}

func TestNothingSharedByDefault(t *testing.T) {
	shared, err := from(t, "version: v1")
	if err != nil || len(shared.Resources) > 0 {
		t.Fatalf("%v %v", shared, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}":         "mps is not supported",
		"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}": "must be >= 2",
		"sharing: {timeSlicing: {resources: nvidia.com/gpu}}":                        "invalid sharing",
	} {
		if _, err := from(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
