// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Command nvidia-device-plugin is the lab's stand-in for NVIDIA's device plugin: it announces GPUs and MIG devices to
// kubelet over the device plugin API v1beta1, by the strategies none, single and mixed.
//
// It enumerates the devices when it starts, at SIGHUP and when kubelet makes its socket anew. A MIG change between is
// not noticed, as with the real one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"gpufleet.io/lab/publishers/internal/options"
	"gpufleet.io/lab/publishers/internal/strategy"
)

// retryRegistration is the pause before another try where kubelet does not answer.
const retryRegistration = 5 * time.Second

var settings = []options.Option{
	{Flag: "config-file", Env: "CONFIG_FILE", Usage: "configuration file"},
	{Flag: "mig-strategy", Env: "MIG_STRATEGY", File: "flags.migStrategy", Default: strategy.None,
		Usage: "how MIG devices are announced: none, single, mixed",
		Check: options.OneOf(strategy.None, strategy.Single, strategy.Mixed)},
	{Flag: "fail-on-init-error", Env: "FAIL_ON_INIT_ERROR", File: "flags.failOnInitError", Default: "true",
		Usage: "end when NVML cannot be initialised instead of waiting for ever"},
	{Flag: "nvidia-driver-root", Env: "NVIDIA_DRIVER_ROOT", File: "flags.nvidiaDriverRoot", Default: "/",
		Usage: "root of the driver on the host"},
	{Flag: "driver-root-ctr-path", Env: "DRIVER_ROOT_CTR_PATH", File: "flags.plugin.containerDriverRoot",
		Default: "/driver-root", Usage: "where the host's driver root is mounted in the plugin's container"},
	{Flag: "device-list-strategy", Env: "DEVICE_LIST_STRATEGY", File: "flags.plugin.deviceListStrategy",
		Default: "envvar", Usage: "how devices get into containers: envvar, cdi-cri or both"},
	{Flag: "pass-device-specs", Env: "PASS_DEVICE_SPECS", File: "flags.plugin.passDeviceSpecs", Default: "false",
		Usage: "name the device nodes to kubelet"},
	{Flag: "nvidia-cdi-hook-path", Env: "NVIDIA_CDI_HOOK_PATH", Default: "/usr/bin/nvidia-ctk",
		Usage: "nvidia-cdi-hook or nvidia-ctk on the host"},
	{Flag: "cdi-folder", Env: "CDI_FOLDER", Default: "/var/run/cdi", Usage: "where the CDI specification goes"},
	{Flag: "kubelet-folder", Env: "KUBELET_FOLDER", Default: filepath.Clean(api.DevicePluginPath),
		Usage: "kubelet's folder of device plugin sockets"},
	{Flag: "host-root", Env: "HOST_ROOT", Default: "/", Usage: "root of /proc and /sys, for tests"},
	{Flag: "disable-healthchecks", Env: "DP_DISABLE_HEALTHCHECKS", Usage: "all, xids, or Xids to ignore"},
}

func main() {
	// Before anything else: a SIGHUP from config-manager may come at any time and must not end the program.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	set, err := options.Parse("nvidia-device-plugin", settings, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(set, signals)
	}
	if err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func run(set *options.Set, signals <-chan os.Signal) error {
	values, err := set.Resolve()
	if err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("failed to create FS watcher: %w", err)
	}
	defer watcher.Close()
	folder := values.String("kubelet-folder")
	if err := watcher.Add(folder); err != nil {
		return fmt.Errorf("failed to watch %s: %w", folder, err)
	}
	kubelet := filepath.Join(folder, filepath.Base(api.KubeletSocket))
	for {
		again, err := serve(set, signals, watcher, kubelet)
		if err != nil || !again {
			return err
		}
	}
}

// serve runs one generation of plugins and says whether another shall follow.
func serve(set *options.Set, signals <-chan os.Signal, watcher *fsnotify.Watcher, kubelet string) (bool, error) {
	values, err := set.Resolve()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running, err := start(ctx, values)
	if err != nil {
		return false, fmt.Errorf("error starting plugins: %w", err)
	}
	defer running.stop(cancel)
	var retry <-chan time.Time
	if running.unregistered != nil {
		log.Printf("%v; trying again in %s", running.unregistered, retryRegistration)
		retry = time.After(retryRegistration)
	}
	for {
		select {
		case <-retry:
			return true, nil
		case received := <-signals:
			if received != syscall.SIGHUP {
				log.Printf("Received signal %q, shutting down.", received)
				return false, nil
			}
			log.Print("Received SIGHUP, restarting.")
			return true, nil
		case event := <-watcher.Events:
			if event.Name == kubelet && event.Has(fsnotify.Create) {
				log.Printf("inotify: %s created, restarting.", kubelet)
				return true, nil
			}
		case err := <-watcher.Errors:
			log.Printf("inotify: %v", err)
		}
	}
}
