{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- with .Values.modelRepository.files }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $.Release.Name }}-models
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
binaryData:
  {{- range $path, $content := . }}
  {{ include "triton.key" $path }}: {{ $content }}
  {{- end }}
{{- end }}
{{- if and .Values.modelRepository.s3 .Values.s3Credentials }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "triton.s3Secret" . }}
  labels:
    {{- include "triton.labels" . | nindent 4 }}
stringData:
  {{- toYaml .Values.s3Credentials | nindent 2 }}
{{- end }}
