{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- range .Values.groups }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $.Release.Name }}-{{ .name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
spec:
  {{- toYaml $.Values.podDisruptionBudget | nindent 2 }}
  # A replica that is not ready serves nobody and may always go.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "triton.selector" $ | nindent 6 }}
      gpufleet.io/group: {{ .name }}
{{- end }}
{{- with .Values.networkPolicy }}
{{- if .enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $.Release.Name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "triton.selector" $ | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        {{- toYaml (.from | default (list (dict "namespaceSelector" dict))) | nindent 8 }}
      ports:
        - {port: http}
        - {port: grpc}
        - {port: metrics}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- if $.Values.modelRepository.s3 }}
    - ports:
        - {port: 443, protocol: TCP}
    {{- end }}
    {{- with .egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
