{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- define "nvidia-device-plugin.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "nvidia-device-plugin.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nvidia-device-plugin.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "nvidia-device-plugin.selectorLabels" -}}
app.kubernetes.io/name: {{ include "nvidia-device-plugin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nvidia-device-plugin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "nvidia-device-plugin.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "nvidia-device-plugin.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default (printf "v%s" .Chart.AppVersion)) -}}
{{- end -}}

{{- /* Name of the ConfigMap with the configurations, empty where there is none. */ -}}
{{- define "nvidia-device-plugin.configMapName" -}}
{{- if .Values.config.map -}}
{{- include "nvidia-device-plugin.fullname" . }}-configs
{{- else -}}
{{- .Values.config.name -}}
{{- end -}}
{{- end -}}

{{- /* "true" where the publishers may meet MIG devices: the strategy says so, or a configuration may. */ -}}
{{- define "nvidia-device-plugin.migPossible" -}}
{{- if or (include "nvidia-device-plugin.configMapName" .) (ne "none" (.Values.migStrategy | default "none")) -}}
true
{{- end -}}
{{- end -}}

{{- /* What both DaemonSets share around their containers. */ -}}
{{- define "nvidia-device-plugin.daemonset.metadata" -}}
namespace: {{ include "nvidia-device-plugin.namespace" . }}
labels:
  {{- include "nvidia-device-plugin.labels" . | nindent 2 }}
{{- end -}}

{{- define "nvidia-device-plugin.template.metadata" -}}
labels:
  {{- include "nvidia-device-plugin.selectorLabels" . | nindent 2 }}
{{- if or .Values.podAnnotations .Values.config.map }}
annotations:
  {{- with .Values.config.map }}
  checksum/config: {{ toYaml . | sha256sum }}
  {{- end }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "nvidia-device-plugin.pod" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- if or (include "nvidia-device-plugin.configMapName" .) .Values.gfd.enabled }}
serviceAccountName: {{ include "nvidia-device-plugin.fullname" . }}-service-account
{{- end }}
{{- if include "nvidia-device-plugin.configMapName" . }}
shareProcessNamespace: true
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* One config-manager container; .program is the publisher it serves, .sidecar whether it stays. */ -}}
{{- define "nvidia-device-plugin.configManager" -}}
name: {{ .program }}-{{ ternary "sidecar" "init" .sidecar }}
image: {{ include "nvidia-device-plugin.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [config-manager]
env:
  - name: ONESHOT
    value: {{ not .sidecar | quote }}
  - name: KUBECONFIG
    value: ""
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: NODE_LABEL
    value: nvidia.com/device-plugin.config
  - name: CONFIG_FILE_SRCDIR
    value: /available-configs
  - name: CONFIG_FILE_DST
    value: /config/config.yaml
  - name: DEFAULT_CONFIG
    value: {{ .root.Values.config.default | quote }}
  - name: FALLBACK_STRATEGIES
    value: {{ join "," .root.Values.config.fallbackStrategies | quote }}
  - name: SEND_SIGNAL
    value: {{ .sidecar | quote }}
  - name: SIGNAL
    value: {{ ternary "1" "" .sidecar | quote }}
  - name: PROCESS_TO_SIGNAL
    value: {{ ternary .program "" .sidecar | quote }}
volumeMounts:
  - {name: available-configs, mountPath: /available-configs}
  - {name: config, mountPath: /config}
{{- end -}}

{{- define "nvidia-device-plugin.configVolumes" -}}
{{- with include "nvidia-device-plugin.configMapName" . }}
- name: available-configs
  configMap: {name: {{ . }}}
- name: config
  emptyDir: {}
{{- end }}
{{- end -}}

{{- /* Environment that both publishers read. A value that is null is left to the configuration. */ -}}
{{- define "nvidia-device-plugin.commonEnv" -}}
{{- if kindIs "string" .Values.migStrategy }}
- name: MIG_STRATEGY
  value: {{ .Values.migStrategy | quote }}
{{- end }}
{{- if kindIs "bool" .Values.failOnInitError }}
- name: FAIL_ON_INIT_ERROR
  value: {{ .Values.failOnInitError | quote }}
{{- end }}
{{- if include "nvidia-device-plugin.configMapName" . }}
- name: CONFIG_FILE
  value: /config/config.yaml
{{- end }}
{{- if include "nvidia-device-plugin.migPossible" . }}
- name: NVIDIA_MIG_MONITOR_DEVICES
  value: all
{{- end }}
{{- end -}}

{{- define "nvidia-device-plugin.securityContext" -}}
{{- if .Values.securityContext -}}
{{- toYaml .Values.securityContext -}}
{{- else if .Values.compatWithCPUManager -}}
privileged: true
{{- else if include "nvidia-device-plugin.migPossible" . -}}
capabilities:
  add: [SYS_ADMIN]
{{- else -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end -}}
{{- end -}}
