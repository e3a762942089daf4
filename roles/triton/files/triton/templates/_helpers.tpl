{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- define "triton.selector" -}}
app.kubernetes.io/name: triton
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "triton.labels" -}}
{{ include "triton.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* A key of a ConfigMap has no slash. */ -}}
{{- define "triton.key" -}}
{{ . | sha256sum | trunc 12 }}-{{ base . }}
{{- end }}

{{- /* Where tritonserver finds its models. */ -}}
{{- define "triton.repository" -}}
{{- with .Values.modelRepository -}}
{{- if .s3 }}{{ .s3 }}{{ else if .pvc }}/models{{ with .pvc.path }}/{{ . | trimPrefix "/" }}{{ end }}{{ else }}/models{{ end }}
{{- end -}}
{{- end }}

{{- define "triton.s3Secret" -}}
{{ .Values.s3Secret | default (printf "%s-s3" .Release.Name) }}
{{- end }}

{{- /* One Service for all groups makes sense only where each of them answers for every model. */ -}}
{{- define "triton.alike" -}}
{{- $all := list -}}
{{- range .Values.groups }}{{ $all = append $all (.models | default list | sortAlpha | join ",") }}{{ end -}}
{{- if le (len (uniq $all)) 1 }}yes{{ end -}}
{{- end }}

{{- define "triton.ports" -}}
- {name: http, port: {{ .Values.service.http }}, targetPort: http}
- {name: grpc, port: {{ .Values.service.grpc }}, targetPort: grpc, appProtocol: kubernetes.io/h2c}
- {name: metrics, port: {{ .Values.service.metrics }}, targetPort: metrics}
{{- end }}
