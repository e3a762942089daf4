// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Command config-manager gives a publisher the configuration that its node's label names. As an init container
// (--oneshot) it chooses once; as a sidecar it follows the label and signals the publisher after each change.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gpufleet.io/lab/publishers/internal/manager"
	"gpufleet.io/lab/publishers/internal/options"
)

var settings = []options.Option{
	{Flag: "oneshot", Env: "ONESHOT", Default: "false", Usage: "choose once and end"},
	{Flag: "kubeconfig", Env: "KUBECONFIG", Usage: "outside a pod: how to reach the API server"},
	{Flag: "node-name", Env: "NODE_NAME", Usage: "the node whose label counts"},
	{Flag: "node-label", Env: "NODE_LABEL", Default: "nvidia.com/device-plugin.config", Usage: "the label"},
	{Flag: "config-file-srcdir", Env: "CONFIG_FILE_SRCDIR", Usage: "folder with a file per entry"},
	{Flag: "config-file-dst", Env: "CONFIG_FILE_DST", Usage: "where the chosen entry goes"},
	{Flag: "default-config", Env: "DEFAULT_CONFIG", Usage: "entry for nodes without the label"},
	{Flag: "fallback-strategies", Env: "FALLBACK_STRATEGIES", Usage: "named, single, empty: tried without a default"},
	{Flag: "send-signal", Env: "SEND_SIGNAL", Default: "false", Usage: "signal a process after a change"},
	{Flag: "signal", Env: "SIGNAL", Default: "1", Usage: "the signal's number; only 1 (SIGHUP) is known",
		Check: options.OneOf("1")},
	{Flag: "process-to-signal", Env: "PROCESS_TO_SIGNAL", Usage: "name of the program"},
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer cancel()
	err := run(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, flag.ErrHelp) {
		log.Printf("Error: %v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	set, err := options.Parse("config-manager", settings, os.Args[1:])
	if err != nil {
		return err
	}
	values, err := set.Resolve()
	if err != nil {
		return err
	}
	for _, needed := range []string{"node-name", "config-file-srcdir", "config-file-dst"} {
		if values.String(needed) == "" {
			return fmt.Errorf("invalid flags: missing --%s", needed)
		}
	}
	client, err := nodeClient(values.String("kubeconfig"))
	if err != nil {
		return err
	}
	node, err := client.Get(ctx, values.String("node-name"), metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("unable to get node object: %w", err)
	}
	if err := update(values, node); err != nil || values.Bool("oneshot") {
		return err
	}
	return follow(ctx, client, node, values)
}

// follow watches the node from the version given. A watch that ends is opened again, after a fresh look.
func follow(ctx context.Context, client corev1.NodeInterface, node *v1.Node, values *options.Values) error {
	log.Printf("Waiting for change to '%s' label", values.String("node-label"))
	for {
		watch, err := client.Watch(ctx, metav1.ListOptions{
			FieldSelector:   fields.OneTermEqualSelector("metadata.name", node.Name).String(),
			ResourceVersion: node.ResourceVersion,
		})
		if err != nil {
			return fmt.Errorf("unable to watch node object: %w", err)
		}
		for event := range watch.ResultChan() {
			seen, isNode := event.Object.(*v1.Node)
			if !isNode {
				log.Printf("the watch ended: %v", event.Object)
				break
			}
			if seen.Labels[values.String("node-label")] == node.Labels[values.String("node-label")] {
				continue
			}
			node = seen
			if err := update(values, node); err != nil {
				watch.Stop()
				return err
			}
		}
		watch.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second): // the API server may be restarting
		}
		fresh, err := client.Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			log.Printf("unable to get node object: %v", err)
			continue
		}
		node = fresh
		if err := update(values, node); err != nil {
			return err
		}
	}
}

func update(values *options.Values, node *v1.Node) error {
	label := node.Labels[values.String("node-label")]
	choice := manager.Choice{
		Folder:    values.String("config-file-srcdir"),
		Default:   values.String("default-config"),
		Fallbacks: values.List("fallback-strategies"),
	}
	entry, err := choice.Entry(label)
	if err != nil {
		return fmt.Errorf("node %s, label %s: %w", node.Name, values.String("node-label"), err)
	}
	changed, err := choice.Install(entry, values.String("config-file-dst"))
	if err != nil {
		return fmt.Errorf("unable to update the config: %w", err)
	}
	log.Printf("Label value %q: config %q, changed: %t", label, entry, changed)
	// The init container has put the config there before the publisher's start, which needs no signal then.
	if !changed || !values.Bool("send-signal") {
		return nil
	}
	if err := manager.Signal("/proc", values.String("process-to-signal"), syscall.SIGHUP); err != nil {
		return err
	}
	log.Printf("Successfully sent SIGHUP to %s", values.String("process-to-signal"))
	return nil
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
