{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- $wanted := list -}}
{{- if include "triton.alike" . }}{{ $wanted = append $wanted "" }}{{ end -}}
{{- range .Values.groups }}{{ $wanted = append $wanted .name }}{{ end -}}
{{- range $group := $wanted }}
{{- $name := $group | empty | ternary $.Release.Name (printf "%s-%s" $.Release.Name $group) }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
    gpufleet.io/service: {{ $group | empty | ternary "all" "group" }}
spec:
  type: {{ $.Values.service.type }}
  selector:
    {{- include "triton.selector" $ | nindent 4 }}
    {{- with $group }}
    gpufleet.io/group: {{ . }}
    {{- end }}
  ports:
    {{- include "triton.ports" $ | nindent 4 }}
---
# gRPC keeps one connection, which a Service gives to one replica: with these addresses the client balances itself.
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-headless
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
    gpufleet.io/service: headless
spec:
  clusterIP: None
  selector:
    {{- include "triton.selector" $ | nindent 4 }}
    {{- with $group }}
    gpufleet.io/group: {{ . }}
    {{- end }}
  ports:
    {{- include "triton.ports" $ | nindent 4 }}
{{- end }}
