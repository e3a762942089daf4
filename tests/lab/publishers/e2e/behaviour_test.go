// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gpufleet.io/lab/publishers/internal/captures"
	"gpufleet.io/lab/publishers/internal/fakekubelet"
)

func oneA100(profiles ...string) captures.Capture {
	board := captures.Board{Product: "a100-sxm4-40gb", MIGEnabled: len(profiles) > 0}
	starts := map[string][]int{"1g.5gb": {0, 1, 2, 3, 4, 5, 6}, "2g.10gb": {2}, "3g.20gb": {4}}
	for _, profile := range profiles {
		start := starts[profile][0]
		starts[profile] = starts[profile][1:]
		board.Instances = append(board.Instances,
			captures.Instance{Profile: profile, Start: start, ComputeInstances: []string{profile}})
	}
	return captures.Capture{Host: []captures.Board{board}, DriverVersion: "580.82.07", CudaVersion: "13.0"}
}

func TestChangeOfInstancesIsNoticedAtSIGHUPOnly(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("3g.20gb", "1g.5gb"))
	p := startPlugin(t, h, "MIG_STRATEGY=mixed")
	before := p.healthy(map[string]int{"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 1})
	h.apply(t, oneA100("2g.10gb", "1g.5gb", "1g.5gb").Host)
	state, err := p.kubelet.Wait(time.Second, func(s fakekubelet.State) bool { return s.Registrations != before.Registrations })
	if err == nil {
		t.Fatalf("noticed: %v", state.Healthy())
	}
	if err := p.program.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	after := p.healthy(map[string]int{"nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-1g.5gb": 2})
	if gone := after.Devices["nvidia.com/mig-3g.20gb"]; len(gone) > 0 {
		t.Fatalf("left over: %v", gone)
	}
}

func TestKubeletRestart(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("1g.5gb", "1g.5gb"))
	p := startPlugin(t, h, "MIG_STRATEGY=single")
	p.healthy(map[string]int{"nvidia.com/gpu": 2})
	p.kubelet.Stop()
	p.startKubelet()
	p.healthy(map[string]int{"nvidia.com/gpu": 2})
}

func TestConfigurationFileIsReadAgainAtSIGHUP(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("1g.5gb", "1g.5gb"))
	file := filepath.Join(h.root, "config.yaml")
	write(t, file, "version: v1\nflags: {migStrategy: none}\n")
	p := startPlugin(t, h, "CONFIG_FILE="+file)
	p.healthy(map[string]int{"nvidia.com/gpu": 1})
	write(t, file, "version: v1\nflags: {migStrategy: mixed}\n")
	if err := p.program.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.healthy(map[string]int{"nvidia.com/mig-1g.5gb": 2})
	labels := discover(t, h, "--config-file="+file)
	if labels["nvidia.com/mig.strategy"] != "mixed" || labels["nvidia.com/mig-1g.5gb.count"] != "2" {
		t.Fatalf("%v", labels)
	}
}

func TestTimeSlicing(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("2g.10gb", "1g.5gb", "1g.5gb"))
	file := filepath.Join(h.root, "config.yaml")
	write(t, file, `{version: v1, flags: {migStrategy: mixed}, sharing: {timeSlicing: {failRequestsGreaterThanOne: true,
		resources: [{name: nvidia.com/mig-1g.5gb, replicas: 3}, {name: nvidia.com/mig-2g.10gb, rename: two, replicas: 2}]}}}`)
	p := startPlugin(t, h, "CONFIG_FILE="+file)
	state := p.healthy(map[string]int{"nvidia.com/mig-1g.5gb": 6, "nvidia.com/two": 2})
	var slices []string
	for id := range state.Devices["nvidia.com/two"] {
		slices = append(slices, id)
	}
	if _, err := p.kubelet.Allocate("nvidia.com/two", slices...); err == nil || !strings.Contains(err.Error(), "is 1") {
		t.Fatalf("two slices in one container: %v", err)
	}
	response, err := p.kubelet.Allocate("nvidia.com/two", slices[0])
	if uuid, _, _ := strings.Cut(slices[0], "::"); err != nil || response.Envs["NVIDIA_VISIBLE_DEVICES"] != uuid {
		t.Fatalf("%v, error %v", response, err)
	}
	labels := discover(t, h, "--config-file="+file)
	for key, want := range map[string]string{
		"mig-1g.5gb.replicas": "3", "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
		"mig-1g.5gb.sharing-strategy": "time-slicing", "mig-1g.5gb.count": "2",
		"mig-2g.10gb.replicas": "2", "mig-2g.10gb.product": "NVIDIA-A100-SXM4-40GB-MIG-2g.10gb", "gpu.replicas": "0",
	} {
		if labels["nvidia.com/"+key] != want {
			t.Errorf("%s is %q, want %q", key, labels["nvidia.com/"+key], want)
		}
	}
}

func TestNoMIGDeviceWithoutItsCapabilityNumbers(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("1g.5gb"))
	if err := os.Remove(filepath.Join(h.root, "proc/driver/nvidia-caps/mig-minors")); err != nil {
		t.Fatal(err)
	}
	resources, lastWords := startPlugin(t, h, "MIG_STRATEGY=single").settled()
	if resources != nil || !strings.Contains(lastWords, "mig-minors") {
		t.Fatalf("registered %v, said %q", resources, lastWords)
	}
}

func TestDriverThatIsNotThere(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100())
	h.simctl(t, "driver", "unload")
	resources, lastWords := startPlugin(t, h).settled()
	if resources != nil || !strings.Contains(lastWords, "failed to initialize NVML") {
		t.Fatalf("registered %v, said %q", resources, lastWords)
	}
	resources, lastWords = startPlugin(t, h, "FAIL_ON_INIT_ERROR=false").settled()
	if resources == nil || len(resources) > 0 {
		t.Fatalf("registered %v, said %q", resources, lastWords)
	}
}

func TestBadSettingsEndThePlugin(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100())
	for variable, text := range map[string]string{
		"MIG_STRATEGY=bogus":                `"bogus" is none of none, single, mixed`,
		"DEVICE_LIST_STRATEGY=volume-mount": "not supported",
		"CONFIG_FILE=/does/not/exist":       "unable to read the configuration file",
		"DP_DISABLE_HEALTHCHECKS=often":     "is no Xid",
	} {
		if resources, lastWords := startPlugin(t, h, variable).settled(); !strings.Contains(lastWords, text) {
			t.Errorf("%s: registered %v, said %q", variable, resources, lastWords)
		}
	}
}

// startPluginWithCDI starts the plugin where /proc/driver is the host's, for the CDI library reads that path itself.
func startPluginWithCDI(t *testing.T, h host) (*plugin, string) {
	t.Helper()
	folder := filepath.Join(h.root, "cdi")
	libraries := filepath.Join(h.root, "usr/lib/x86_64-linux-gnu")
	if err := os.MkdirAll(libraries, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"libnvidia-ml.so", "libcuda.so"} {
		content, err := os.ReadFile(filepath.Join(simulator, name+".1"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(libraries, name+".580.82.07"), string(content))
		if err := os.Symlink(name+".580.82.07", filepath.Join(libraries, name+".1")); err != nil {
			t.Fatal(err)
		}
	}
	p := preparePlugin(t, h, "MIG_STRATEGY=mixed", "DEVICE_LIST_STRATEGY=cdi-cri", "CDI_FOLDER="+folder,
		"DRIVER_ROOT_CTR_PATH="+h.root, "HOST_ROOT=/")
	inside := fmt.Sprintf(`mount --bind "%s/proc/driver" /proc/driver && exec "%s"`, h.root, p.program.Path)
	wrapped := command("unshare", "--mount", "--propagation", "private", "sh", "-c", inside)
	wrapped.Env, wrapped.Stderr = p.program.Env, p.log
	p.program = wrapped
	p.start()
	return p, filepath.Join(folder, "k8s.device-plugin.nvidia.com-gpu.json")
}

func TestCDISpecificationNamesEveryDevice(t *testing.T) {
	t.Parallel()
	h := newHost(t, oneA100("3g.20gb", "1g.5gb"))
	p, path := startPluginWithCDI(t, h)
	state := p.healthy(map[string]int{"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 1})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for resource, devices := range state.Devices {
		for uuid := range devices {
			if !strings.Contains(string(text), fmt.Sprintf("%q", uuid)) {
				t.Errorf("no device %s of %s in\n%s", uuid, resource, text)
			}
			response, err := p.kubelet.Allocate(resource, uuid)
			if err != nil {
				t.Fatal(err)
			}
			names := response.CdiDevices
			if len(names) != 1 || names[0].Name != "k8s.device-plugin.nvidia.com/gpu="+uuid || len(response.Envs) > 0 {
				t.Errorf("answer for %s: %v", uuid, response)
			}
		}
	}
	for _, needed := range []string{`"/dev/nvidia0"`, `"/dev/nvidiactl"`, "/dev/nvidia-caps/nvidia-cap", "libcuda.so.580.82.07"} {
		if !strings.Contains(string(text), needed) {
			t.Errorf("%s is not in\n%s", needed, text)
		}
	}
	if strings.Contains(string(text), h.root+"/dev") {
		t.Errorf("paths are those of the plugin's container:\n%s", text)
	}
}

func TestCDISpecificationWithoutDevicesEndsThePlugin(t *testing.T) {
	t.Parallel()
	capture := oneA100()
	capture.Host[0].MIGEnabled = true
	p, _ := startPluginWithCDI(t, newHost(t, capture))
	if resources, lastWords := p.settled(); !strings.HasSuffix(lastWords, "invalid CDI Spec: invalid spec, no devices") {
		t.Fatalf("registered %v, said %q", resources, lastWords)
	}
}
