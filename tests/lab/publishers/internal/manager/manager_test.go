// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package manager_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gpufleet.io/lab/publishers/internal/manager"
)

func folder(t *testing.T, entries ...string) string {
	t.Helper()
	path := t.TempDir()
	// As Kubernetes mounts it: the data in a hidden folder, links beside.
	if err := os.Mkdir(filepath.Join(path, "..data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.WriteFile(filepath.Join(path, entry), []byte("content of "+entry), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestChoice(t *testing.T) {
	both := []string{"named", "single"}
	for name, test := range map[string]struct {
		entries         []string
		label, fallback string
		fallbacks       []string
		want, fails     string
	}{
		"label":            {entries: []string{"none", "mixed"}, label: "mixed", fallback: "none", want: "mixed"},
		"default":          {entries: []string{"none", "mixed"}, fallback: "none", want: "none"},
		"unknown label":    {entries: []string{"none", "mixed"}, label: "bogus", fallback: "none", fails: "config bogus does not exist, there are: mixed, none"},
		"unknown default":  {entries: []string{"none"}, fallback: "gone", fails: "config gone does not exist"},
		"called default":   {entries: []string{"default", "mixed"}, fallbacks: both, want: "default"},
		"the only one":     {entries: []string{"mixed"}, fallbacks: both, want: "mixed"},
		"several, no rule": {entries: []string{"none", "mixed"}, fallbacks: both, fails: "there is no default"},
		"empty":            {entries: []string{"none", "mixed"}, fallbacks: []string{"single", "empty"}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			choice := manager.Choice{Folder: folder(t, test.entries...), Default: test.fallback, Fallbacks: test.fallbacks}
			entry, err := choice.Entry(test.label)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("entry %q, error %v", entry, err)
				}
				return
			}
			if err != nil || entry != test.want {
				t.Fatalf("entry %q, error %v", entry, err)
			}
		})
	}
}

func TestInstallTellsWhetherTheContentChanged(t *testing.T) {
	choice := manager.Choice{Folder: folder(t, "a", "b")}
	target := filepath.Join(t.TempDir(), "config.yaml")
	for _, step := range []struct {
		entry, content string
		changed        bool
	}{{"a", "content of a", true}, {"a", "content of a", false}, {"b", "content of b", true}, {"", "", true}} {
		changed, err := choice.Install(step.entry, target)
		if err != nil || changed != step.changed {
			t.Fatalf("%+v: changed %t, error %v", step, changed, err)
		}
		if text, err := os.ReadFile(target); err != nil || string(text) != step.content {
			t.Fatalf("%+v: %q, error %v", step, text, err)
		}
	}
}

// Not SIGHUP: under nohup programs are born deaf to it.
func TestSignalFindsAProgramByName(t *testing.T) {
	program := filepath.Join(t.TempDir(), "a-publisher-with-a-long-name")
	if err := os.Symlink("/bin/sleep", program); err != nil {
		t.Fatal(err)
	}
	process := exec.Command(program, "60")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if err := manager.Signal("/proc", filepath.Base(program), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if status, err := process.Process.Wait(); err != nil || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGUSR1 {
		t.Fatalf("%v, error %v", status, err)
	}
	err := manager.Signal("/proc", filepath.Base(program), syscall.SIGUSR1)
	if err == nil || !strings.Contains(err.Error(), "no process found") {
		t.Fatalf("signalled nobody: %v", err)
	}
}
