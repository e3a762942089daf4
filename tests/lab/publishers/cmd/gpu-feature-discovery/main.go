// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Command gpu-feature-discovery is the lab's stand-in for NVIDIA's GPU feature discovery together with the part of node
// feature discovery that puts labels on nodes: it labels its own Node, or writes a file.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"gpufleet.io/lab/publishers/internal/gpus"
	"gpufleet.io/lab/publishers/internal/labels"
	"gpufleet.io/lab/publishers/internal/nodelabels"
	"gpufleet.io/lab/publishers/internal/options"
	"gpufleet.io/lab/publishers/internal/sharing"
	"gpufleet.io/lab/publishers/internal/strategy"
)

const timestampLabel = "nvidia.com/gfd.timestamp"

var settings = []options.Option{
	{Flag: "config-file", Env: "CONFIG_FILE", Usage: "configuration file"},
	{Flag: "mig-strategy", Env: "MIG_STRATEGY", File: "flags.migStrategy", Default: strategy.None,
		Usage: "how MIG devices are labelled: none, single, mixed",
		Check: options.OneOf(strategy.None, strategy.Single, strategy.Mixed)},
	{Flag: "fail-on-init-error", Env: "FAIL_ON_INIT_ERROR", File: "flags.failOnInitError", Default: "true",
		Usage: "end when NVML cannot be initialised instead of giving no labels"},
	{Flag: "oneshot", Env: "GFD_ONESHOT", File: "flags.gfd.oneshot", Default: "false", Usage: "label once and end"},
	{Flag: "no-timestamp", Env: "GFD_NO_TIMESTAMP", File: "flags.gfd.noTimestamp", Default: "false",
		Usage: "leave out gfd.timestamp"},
	{Flag: "sleep-interval", Env: "GFD_SLEEP_INTERVAL", File: "flags.gfd.sleepInterval", Default: "60s",
		Usage: "time between two labellings", Check: options.IsDuration},
	{Flag: "output-file", Env: "GFD_OUTPUT_FILE", File: "flags.gfd.outputFile",
		Default: "/etc/kubernetes/node-feature-discovery/features.d/gfd",
		Usage:   "file for the labels where the Node is not labelled; empty: standard output"},
	{Flag: "machine-type-file", Env: "GFD_MACHINE_TYPE_FILE", File: "flags.gfd.machineTypeFile",
		Default: "/sys/class/dmi/id/product_name", Usage: "file that names the kind of machine"},
	{Flag: "use-node-feature-api", Env: "GFD_USE_NODE_FEATURE_API", Default: "true",
		Usage: "label the Node through the API server instead of writing a file"},
	{Flag: "node-name", Env: "NODE_NAME", Usage: "the Node to label"},
	{Flag: "kubeconfig", Env: "KUBECONFIG", Usage: "outside a pod: how to reach the API server"},
	{Flag: "driver-root-ctr-path", Env: "DRIVER_ROOT_CTR_PATH", Default: "/driver-root",
		Usage: "where the host's driver root is mounted, if it is"},
	{Flag: "host-root", Env: "HOST_ROOT", Default: "/", Usage: "root of /sys, for tests"},
}

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	set, err := options.Parse("gpu-feature-discovery", settings, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	for again := true; err == nil && again; {
		again, err = run(set, signals)
	}
	if err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// run labels with one reading of the configuration, until a signal. It says whether to go on with another.
func run(set *options.Set, signals <-chan os.Signal) (bool, error) {
	values, err := set.Resolve()
	if err != nil {
		return false, err
	}
	publish, err := publisher(values)
	if err != nil {
		return false, err
	}
	timestamp := fmt.Sprint(time.Now().Unix())
	for {
		found, err := discover(values)
		if err != nil {
			return false, fmt.Errorf("error generating labels: %w", err)
		}
		if len(found) == 0 {
			log.Print("warning: no labels generated from any source")
		} else if !values.Bool("no-timestamp") {
			found[timestampLabel] = timestamp
		}
		if err := publish(found); err != nil {
			return false, fmt.Errorf("error publishing labels: %w", err)
		}
		if values.Bool("oneshot") {
			return false, nil
		}
		select {
		case received := <-signals:
			again := received == syscall.SIGHUP
			log.Printf("Received signal %q, starting anew: %t.", received, again)
			return again, nil
		case <-time.After(values.Duration("sleep-interval")):
		}
	}
}

func discover(values *options.Values) (labels.Labels, error) {
	shared, err := sharing.From(values.Document)
	if err != nil {
		return nil, err
	}
	// NVML is opened for each round only: a client that stays keeps a GPU from being reset.
	library, err := gpus.Open(values.String("driver-root-ctr-path"))
	if err != nil {
		if values.Bool("fail-on-init-error") {
			return nil, err
		}
		log.Print(err)
		return labels.Labels{}, nil
	}
	defer func() {
		if result := library.Shutdown(); result != nvml.SUCCESS {
			log.Printf("error shutting down NVML: %v", result)
		}
	}()
	host, err := gpus.Read(library)
	if err != nil {
		return nil, err
	}
	in := labels.Input{Host: host, Strategy: values.String("mig-strategy"), Sharing: shared, Machine: machine(values)}
	files := gpus.Files{Root: values.String("host-root")}
	for _, board := range host.GPUs {
		class, err := files.PCIClass(board)
		if err != nil {
			log.Printf("GPU %d: cannot read its PCI class: %v", board.Index, err)
		}
		in.PCIClasses = append(in.PCIClasses, class)
	}
	return labels.Generate(in), nil
}

func machine(values *options.Values) string {
	text, err := os.ReadFile(values.String("machine-type-file"))
	if err != nil {
		log.Printf("error getting machine type: %v", err)
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// publisher returns what hands a set of labels on.
func publisher(values *options.Values) (func(labels.Labels) error, error) {
	if !values.Bool("use-node-feature-api") {
		path := values.String("output-file")
		return func(found labels.Labels) error { return writeFile(path, found) }, nil
	}
	name := values.String("node-name")
	if name == "" {
		return nil, fmt.Errorf("NODE_NAME is not set, so there is no Node to label")
	}
	client, err := nodeClient(values.String("kubeconfig"))
	if err != nil {
		return nil, err
	}
	return func(found labels.Labels) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		changed, err := nodelabels.Apply(ctx, client, name, found)
		if changed {
			log.Printf("Node %s: %d labels in place", name, len(found))
		}
		return err
	}, nil
}

func nodeClient(kubeconfig string) (corev1.NodeInterface, error) {
	config, err := rest.InClusterConfig()
	if kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	client, err := corev1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return client.Nodes(), nil
}

// writeFile replaces a feature file in one step, so that a reader never meets half of it.
func writeFile(path string, found labels.Labels) error {
	var text bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintf(&text, "%s=%s\n", key, found[key])
	}
	if path == "" {
		_, err := os.Stdout.Write(text.Bytes())
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, text.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}
