// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package gpus

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Files are the host's files beside the library. Root is "/" except in tests.
type Files struct{ Root string }

// CapabilityNodes returns the device nodes of a MIG device, of its GPU instance first.
//
// The driver publishes the numbers in /proc/driver/nvidia-caps/mig-minors, one "gpu0/gi1/access 12" per line.
func (f Files) CapabilityNodes(minor int, part MIGDevice) ([]string, error) {
	path := filepath.Join(f.Root, "proc/driver/nvidia-caps/mig-minors")
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("error getting MIG capability device paths: %w", err)
	}
	defer file.Close()
	instance := fmt.Sprintf("gpu%d/gi%d", minor, part.GI)
	wanted := []string{instance + "/access", fmt.Sprintf("%s/ci%d/access", instance, part.CI)}
	numbers := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, number, found := strings.Cut(strings.TrimSpace(lines.Text()), " "); found {
			numbers[name] = number
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("error reading %s: %w", path, err)
	}
	nodes := make([]string, 0, len(wanted))
	for _, name := range wanted {
		number, found := numbers[name]
		if !found {
			return nil, fmt.Errorf("error getting MIG capability device paths: %s has no entry %s", path, name)
		}
		nodes = append(nodes, "/dev/nvidia-caps/nvidia-cap"+number)
	}
	return nodes, nil
}

// NUMANode returns the node that a GPU is attached to, false where the host does not say or has only one.
func (f Files) NUMANode(gpu GPU) (int64, bool) {
	text, err := os.ReadFile(f.pciFile(gpu, "numa_node"))
	if err != nil {
		return 0, false
	}
	node, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return node, err == nil && node >= 0
}

// PCIClass returns the class code of a GPU: 0x0302 is a 3D controller, 0x0300 a VGA controller.
func (f Files) PCIClass(gpu GPU) (uint64, error) {
	path := f.pciFile(gpu, "class")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	code, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return code >> 8, nil
}

func (f Files) pciFile(gpu GPU, name string) string {
	return filepath.Join(f.Root, "sys/bus/pci/devices", gpu.PCIBusID, name)
}
