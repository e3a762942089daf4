// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package e2e runs the publishers as programs on the simulated NVML, with a kubelet's socket of the test's own.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gpufleet.io/lab/publishers/internal/captures"
)

var (
	simulator string // folder with libnvidia-ml.so.1 and simctl
	binaries  string // folder with the publishers
	products  map[string]captures.Product
	captured  []captures.Capture
)

// TestMain builds what it needs. SIM_BUILD names a built simulator, without it one is built.
//
// The test binary is also the program that lays out a simulated host: NVML keeps one state per process.
func TestMain(m *testing.M) {
	if layout := os.Getenv(layoutVariable); layout != "" {
		if err := layOut(layout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	scratch, err := os.MkdirTemp("", "publishers")
	if err == nil {
		err = prepare(scratch)
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	if err := os.RemoveAll(scratch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func prepare(scratch string) error {
	var err error
	if captured, err = captures.Read(); err != nil {
		return err
	}
	if products, err = captures.Products(); err != nil {
		return err
	}
	if simulator = os.Getenv("SIM_BUILD"); simulator == "" {
		simulator = filepath.Join(scratch, "simulator")
		// The product tables are made by a Python with PyYAML; PYTHON in the environment names it to make.
		if err := command("make", "-C", "../../../simulator", "BUILD="+simulator).run(); err != nil {
			return err
		}
	}
	binaries = filepath.Join(scratch, "bin")
	if err := command("go", "build", "-o", binaries+"/", "../cmd/...").run(); err != nil {
		return err
	}
	return nil
}

// program is a command whose output is told where it fails.
type program struct{ *exec.Cmd }

func command(name string, arguments ...string) program {
	return program{exec.CommandContext(context.Background(), name, arguments...)}
}

func (p program) run() error {
	_, err := p.output()
	return err
}

func (p program) output() (string, error) {
	var out, errors strings.Builder
	p.Stdout, p.Stderr = &out, &errors
	if err := p.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(p.Args, " "), err, out.String(), errors.String())
	}
	return out.String(), nil
}

// host is one simulated host: a state file and the files beside the library.
type host struct {
	root  string
	state string
}

func newHost(t *testing.T, capture captures.Capture) host {
	t.Helper()
	folder := t.TempDir()
	made := host{root: filepath.Join(folder, "root"), state: filepath.Join(folder, "nvml-sim.state")}
	boards := []map[string]string{}
	for _, board := range capture.Host {
		boards = append(boards, map[string]string{"product": board.Product})
	}
	spec, err := json.Marshal(map[string]any{
		"driver_version": capture.DriverVersion, "cuda_version": capture.CudaVersion, "gpus": boards,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "spec.json")
	write(t, path, string(spec))
	made.simctl(t, "init", path)
	made.apply(t, capture.Host)
	write(t, filepath.Join(made.root, "machine"), "SimServer-1\n")
	return made
}

// apply lays out the GPUs and renews the files that the driver would keep.
func (h host) apply(t *testing.T, boards []captures.Board) {
	t.Helper()
	layout, err := json.Marshal(boards)
	if err != nil {
		t.Fatal(err)
	}
	layer := command(os.Args[0])
	layer.Env = append(h.environment(), layoutVariable+"="+string(layout))
	if err := layer.run(); err != nil {
		t.Fatal(err)
	}
	h.simctl(t, "files", h.root)
}

func (h host) simctl(t *testing.T, arguments ...string) string {
	t.Helper()
	control := command(filepath.Join(simulator, "simctl"), append([]string{"--state", h.state}, arguments...)...)
	out, err := control.output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// environment lets a program find the simulated library and this host's state.
func (h host) environment(more ...string) []string {
	variables := []string{
		"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + simulator, "NVML_SIM_STATE=" + h.state, "HOST_ROOT=" + h.root,
	}
	return append(variables, more...)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
