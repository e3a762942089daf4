// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package manager chooses a node's configuration by its label and hands it to the program that uses it.
package manager

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Choice is how an entry is found where the label names none.
type Choice struct {
	Folder    string   // one file per entry, as Kubernetes mounts a ConfigMap
	Default   string   // entry for nodes without the label
	Fallbacks []string // tried in turn where there is no default: "named" (an entry called default), "single", "empty"
}

// Entry returns the entry for a label's value; "" means an empty configuration.
func (c Choice) Entry(label string) (string, error) {
	entries, err := c.entries()
	if err != nil {
		return "", err
	}
	for _, name := range []string{label, c.Default} {
		if name == "" {
			continue
		}
		if !slices.Contains(entries, name) {
			return "", fmt.Errorf("specified config %s does not exist, there are: %s", name, strings.Join(entries, ", "))
		}
		return name, nil
	}
	for _, fallback := range c.Fallbacks {
		switch {
		case fallback == "named" && slices.Contains(entries, "default"):
			return "default", nil
		case fallback == "single" && len(entries) == 1:
			return entries[0], nil
		case fallback == "empty":
			return "", nil
		}
	}
	return "", fmt.Errorf("the node's label names no config and there is no default; there are: %s",
		strings.Join(entries, ", "))
}

func (c Choice) entries() ([]string, error) {
	files, err := os.ReadDir(c.Folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		// Kubernetes keeps the mounted data in folders whose names begin with two dots.
		if !strings.HasPrefix(file.Name(), "..") {
			names = append(names, file.Name())
		}
	}
	return names, nil
}

// Install makes the destination hold an entry and says whether its content changed.
func (c Choice) Install(entry, destination string) (bool, error) {
	content := []byte{}
	if entry != "" {
		var err error
		if content, err = os.ReadFile(filepath.Join(c.Folder, entry)); err != nil {
			return false, err
		}
	}
	if present, err := os.ReadFile(destination); err == nil && bytes.Equal(present, content) {
		return false, nil
	}
	next := destination + ".new"
	if err := os.WriteFile(next, content, 0o644); err != nil {
		return false, err
	}
	return true, os.Rename(next, destination)
}

// Signal sends a signal to every process whose program has this name, and fails where there is none.
func Signal(procfs, program string, signal syscall.Signal) error {
	found := false
	folders, err := os.ReadDir(procfs)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		pid, err := strconv.Atoi(folder.Name())
		if err != nil {
			continue
		}
		// A process that ends meanwhile has no command line any more.
		line, err := os.ReadFile(filepath.Join(procfs, folder.Name(), "cmdline"))
		if err != nil {
			continue
		}
		if first, _, _ := strings.Cut(string(line), "\x00"); filepath.Base(first) != program {
			continue
		}
		if err := syscall.Kill(pid, signal); err != nil {
			return fmt.Errorf("unable to signal %s (pid %d): %w", program, pid, err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("no process found with name %s", program)
	}
	return nil
}
