// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gpufleet.io/lab/publishers/internal/captures"
	"gpufleet.io/lab/publishers/internal/fakekubelet"
)

// patience is far more than anything here takes; only a failure waits so long.
const patience = 20 * time.Second

// journal is a program's log while it runs.
type journal struct {
	mutex   sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (j *journal) Write(text []byte) (int, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
	return j.text.Write(text)
}

func (j *journal) read() (string, <-chan struct{}) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.String(), j.changed
}

// plugin is a running device plugin with its kubelet.
type plugin struct {
	t       *testing.T
	kubelet *fakekubelet.Kubelet
	folder  string
	log     *journal
	program program
	ended   chan error
}

func startPlugin(t *testing.T, h host, variables ...string) *plugin {
	t.Helper()
	p := preparePlugin(t, h, variables...)
	p.start()
	return p
}

func preparePlugin(t *testing.T, h host, variables ...string) *plugin {
	t.Helper()
	// Paths of sockets may have 107 characters, which t.TempDir() exceeds.
	folder, err := os.MkdirTemp("", "kubelet")
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{t: t, folder: folder, log: &journal{changed: make(chan struct{})}, ended: make(chan error, 1)}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	p.startKubelet()
	p.program = command(filepath.Join(binaries, "nvidia-device-plugin"))
	p.program.Env = h.environment(append([]string{"KUBELET_FOLDER=" + folder}, variables...)...)
	p.program.Stderr = p.log
	return p
}

func (p *plugin) start() {
	p.t.Helper()
	if err := p.program.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { p.ended <- p.program.Wait() }()
	p.t.Cleanup(p.stop)
}

func (p *plugin) startKubelet() {
	p.t.Helper()
	kubelet, err := fakekubelet.Start(p.folder)
	if err != nil {
		p.t.Fatal(err)
	}
	p.kubelet = kubelet
	p.t.Cleanup(kubelet.Stop)
}

func (p *plugin) stop() {
	if p.program.ProcessState != nil {
		return
	}
	if err := p.program.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	if err := <-p.ended; err != nil {
		text, _ := p.log.read()
		p.t.Errorf("the plugin did not end well: %v\n%s", err, text)
	}
}

// settled waits until the plugin has registered everything, waits for GPUs, or ended; the last with its last words.
func (p *plugin) settled() (resources map[string]int, lastWords string) {
	p.t.Helper()
	over := time.After(patience)
	for {
		text, changed := p.log.read()
		if strings.Contains(text, "Waiting indefinitely.") {
			return map[string]int{}, ""
		}
		if _, rest, found := strings.Cut(text, "All "); found {
			var count int
			if _, err := fmt.Sscanf(rest, "%d resources are registered", &count); err != nil {
				p.t.Fatal(err)
			}
			state, err := p.kubelet.Wait(patience, func(s fakekubelet.State) bool { return len(s.Healthy()) == count })
			if err != nil {
				p.t.Fatal(err)
			}
			return state.Healthy(), ""
		}
		select {
		case <-changed:
		case err := <-p.ended:
			text, _ := p.log.read()
			lines := strings.Split(strings.TrimSpace(text), "\n")
			if code := p.program.ProcessState.ExitCode(); code != 1 {
				p.t.Fatalf("ended with %d (%v)\n%s", code, err, text)
			}
			return nil, lines[len(lines)-1]
		case <-over:
			p.t.Fatalf("the plugin neither registers nor ends:\n%s", text)
		}
	}
}

// healthy waits until kubelet has exactly these devices.
func (p *plugin) healthy(want map[string]int) fakekubelet.State {
	p.t.Helper()
	state, err := p.kubelet.Wait(patience, func(s fakekubelet.State) bool { return maps.Equal(s.Healthy(), want) })
	if err != nil {
		text, _ := p.log.read()
		p.t.Fatalf("want %v: %v\n%s", want, err, text)
	}
	return state
}

// hosts returns the captured hosts, each with its captures of the three strategies.
func hosts() map[string][]captures.Capture {
	byCase := map[string][]captures.Capture{}
	for _, capture := range captured {
		byCase[capture.Case] = append(byCase[capture.Case], capture)
	}
	return byCase
}

func find(t *testing.T, name string) captures.Capture {
	t.Helper()
	at := slices.IndexFunc(captured, func(c captures.Capture) bool { return c.Name() == name })
	if at < 0 {
		t.Fatalf("no capture %s", name)
	}
	return captured[at]
}
