{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- range $group := .Values.groups }}
{{- with .autoscaling }}
{{- $metric := .metric | default "nv_inference_pending_request_count" }}
{{- $name := printf "%s-%s" $.Release.Name $group.name }}
---
{{- if eq .kind "keda" }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ $name }}}
  minReplicaCount: {{ .min | default 1 }}
  maxReplicaCount: {{ .max }}
  triggers:
    - type: prometheus
      metadata:
        serverAddress: {{ .prometheus }}
        query: sum({{ $metric }}{namespace="{{ $.Release.Namespace }}",pod=~"{{ $name }}-.*"})
        threshold: {{ .target | default "5" | quote }}
{{- else }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .min | default 1 }}
  maxReplicas: {{ .max }}
  metrics:
    - type: Pods
      pods:
        metric: {name: {{ $metric }}}
        target: {type: AverageValue, averageValue: {{ .target | default "5" | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.serviceMonitor }}
{{- if .enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $.Release.Name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # Of the groups' own Services; the one over all groups would double every series.
  selector:
    matchLabels:
      {{- include "triton.selector" $ | nindent 6 }}
      gpufleet.io/service: group
  endpoints:
    - {port: metrics, interval: {{ .interval }}}
{{- end }}
{{- end }}
