// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gpufleet.io/lab/publishers/internal/captures"
)

func TestProgramsPublishWhatTheRealOnesDid(t *testing.T) {
	for name, strategies := range hosts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, strategies[0])
			for _, capture := range strategies {
				t.Run(capture.Strategy, func(t *testing.T) {
					checkPlugin(t, h, capture)
					checkLabels(t, h, capture)
				})
			}
		})
	}
}

func checkPlugin(t *testing.T, h host, capture captures.Capture) {
	t.Helper()
	resources, lastWords := startPlugin(t, h, "MIG_STRATEGY="+capture.Strategy).settled()
	if capture.PluginError != nil {
		if resources != nil || !captures.SameEnding(*capture.PluginError, lastWords) {
			t.Errorf("the real plugin says %q, ours registers %v, says %q", *capture.PluginError, resources, lastWords)
		}
		return
	}
	if lastWords != "" || !maps.Equal(resources, capture.Resources) {
		t.Errorf("the real plugin registers %v, ours %v, says %q", capture.Resources, resources, lastWords)
	}
}

func checkLabels(t *testing.T, h host, capture captures.Capture) {
	t.Helper()
	ours := discover(t, h, "--mig-strategy="+capture.Strategy)
	for _, real := range append(capture.LabelsAlternatives, capture.Labels) {
		if maps.Equal(ours, real) {
			return
		}
	}
	t.Errorf("labels are none of the real answers, which are\n%v\nours:\n%v", capture.Labels, ours)
}

// discover runs feature discovery once and returns its labels without the timestamp.
func discover(t *testing.T, h host, arguments ...string) map[string]string {
	t.Helper()
	output := filepath.Join(t.TempDir(), "gfd")
	gfd := command(filepath.Join(binaries, "gpu-feature-discovery"), append([]string{
		"--oneshot", "--use-node-feature-api=false", "--output-file=" + output,
		"--machine-type-file=" + filepath.Join(h.root, "machine"),
	}, arguments...)...)
	gfd.Env = h.environment()
	if err := gfd.run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		key, value, _ := strings.Cut(line, "=")
		found[key] = value
	}
	if found["nvidia.com/gfd.timestamp"] == "" {
		t.Error("no timestamp")
	}
	delete(found, "nvidia.com/gfd.timestamp")
	return found
}
