// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package nodelabels keeps a set of labels on a Node, as node feature discovery does for the features it is told of.
package nodelabels

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Annotation lists the keys that were set, so that those no longer wanted can be found and removed later. It is the
// one that node feature discovery uses; the two never work on one node.
const Annotation = "nfd.node.kubernetes.io/feature-labels"

// Apply brings the Node's labels in line and says whether anything differed. Labels that it did not set are left alone.
func Apply(ctx context.Context, nodes corev1.NodeInterface, name string, wanted map[string]string) (bool, error) {
	node, err := nodes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	labels := map[string]any{}
	for _, key := range strings.Split(node.Annotations[Annotation], ",") {
		_, present := node.Labels[key]
		if _, keep := wanted[key]; present && !keep {
			labels[key] = nil
		}
	}
	for key, value := range wanted {
		if present, found := node.Labels[key]; !found || present != value {
			labels[key] = value
		}
	}
	owned := strings.Join(slices.Sorted(maps.Keys(wanted)), ",")
	if len(labels) == 0 && node.Annotations[Annotation] == owned {
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels":      labels,
		"annotations": map[string]string{Annotation: owned},
	}})
	if err != nil {
		return false, err
	}
	_, err = nodes.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err == nil, err
}
