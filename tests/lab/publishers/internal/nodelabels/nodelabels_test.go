// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package nodelabels_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"gpufleet.io/lab/publishers/internal/nodelabels"
)

// cluster is an API server that knows one Node and merge patches.
type cluster struct {
	t       *testing.T
	node    v1.Node
	patches int
}

func (c *cluster) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if request.URL.Path != "/api/v1/nodes/gpu-01" {
		http.NotFound(response, request)
		return
	}
	if request.Method == http.MethodPatch {
		c.patches++
		if kind := request.Header.Get("Content-Type"); kind != "application/merge-patch+json" {
			c.t.Errorf("patch of type %s", kind)
		}
		patch, err := io.ReadAll(request.Body)
		if err != nil {
			c.t.Error(err)
		}
		before, err := json.Marshal(c.node)
		if err != nil {
			c.t.Error(err)
		}
		// On plain maps a strategic merge is the same as a merge: null removes.
		after, err := strategicpatch.StrategicMergePatch(before, patch, v1.Node{})
		if err != nil {
			c.t.Error(err)
		}
		c.node = v1.Node{}
		if err := json.Unmarshal(after, &c.node); err != nil {
			c.t.Error(err)
		}
	}
	response.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(response).Encode(c.node); err != nil {
		c.t.Error(err)
	}
}

func TestLabelsComeChangeAndGoButNotThoseOfOthers(t *testing.T) {
	others := map[string]string{"kubernetes.io/hostname": "gpu-01", "nvidia.com/device-plugin.config": "mixed"}
	server := &cluster{t: t, node: v1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "gpu-01", Labels: maps.Clone(others)},
	}}
	listener := httptest.NewServer(server)
	defer listener.Close()
	client, err := corev1.NewForConfig(&rest.Config{Host: listener.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wanted  map[string]string
		patches int
	}{
		{map[string]string{}, 0},
		{map[string]string{"nvidia.com/gpu.count": "1", "nvidia.com/mig-1g.5gb.count": "7"}, 1},
		{map[string]string{"nvidia.com/gpu.count": "1", "nvidia.com/mig-1g.5gb.count": "7"}, 1},
		{map[string]string{"nvidia.com/gpu.count": "1", "nvidia.com/mig-2g.10gb.count": "3"}, 2},
		{map[string]string{"nvidia.com/gpu.count": "8"}, 3},
		{map[string]string{}, 4},
	} {
		if _, err := nodelabels.Apply(context.Background(), client.Nodes(), "gpu-01", step.wanted); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(others)
		maps.Copy(want, step.wanted)
		if !maps.Equal(server.node.Labels, want) || server.patches != step.patches {
			t.Fatalf("after %v: %v with %d patches, want %d", step.wanted, server.node.Labels, server.patches, step.patches)
		}
	}
	if _, err := nodelabels.Apply(context.Background(), client.Nodes(), "gpu-02", others); err == nil {
		t.Fatal("a Node that does not exist was labelled")
	}
}
