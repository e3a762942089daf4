{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- $repository := include "triton.repository" . -}}
{{- $files := .Values.modelRepository.files -}}
{{- $folders := list -}}
{{- range $path, $_ := $files }}{{ $folders = append $folders (splitList "/" $path | first) }}{{ end -}}
{{- range $group := .Values.groups }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $.Release.Name }}-{{ .name }}
  labels:
    {{- include "triton.labels" $ | nindent 4 }}
    gpufleet.io/group: {{ .name }}
spec:
  {{- if not .autoscaling }}
  replicas: {{ .replicas | default 1 }}
  {{- end }}
  # No partition is free for one replica more while the others hold theirs.
  strategy:
    rollingUpdate: {maxSurge: 0, maxUnavailable: 1}
  selector:
    matchLabels:
      {{- include "triton.selector" $ | nindent 6 }}
      gpufleet.io/group: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "triton.selector" $ | nindent 8 }}
        gpufleet.io/group: {{ .name }}
      {{- $annotations := $.Values.podAnnotations }}
      {{- if $files }}
      {{- $annotations = merge (dict "gpufleet.io/models" ($files | toJson | sha256sum)) $annotations }}
      {{- end }}
      {{- with $annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $.Values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with $.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ add $.Values.leaveSeconds $.Values.drainSeconds 5 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ $.Values.user }}
        runAsGroup: {{ $.Values.user }}
        fsGroup: {{ $.Values.user }}
        seccompProfile: {type: RuntimeDefault}
      {{- with .nodes }}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - {key: kubernetes.io/hostname, operator: In, values: {{ toJson . }}}
      {{- end }}
      {{- with $.Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $.Values.topologySpread }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "triton.selector" $ | nindent 14 }}
              gpufleet.io/group: {{ .name }}
      {{- end }}
      containers:
        - name: triton
          image: {{ $.Values.image.repository }}:{{ $.Values.image.tag }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          command: [tritonserver]
          args:
            - --model-repository={{ $repository }}
            - --exit-timeout-secs={{ $.Values.drainSeconds }}
            {{- if .models }}
            - --model-control-mode=explicit
            {{- range .models }}
            - --load-model={{ . }}
            {{- end }}
            {{- end }}
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
          env:
            - {name: HOME, value: /tmp}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- if $.Values.modelRepository.s3 }}
          {{- if or $.Values.s3Secret $.Values.s3Credentials }}
          envFrom:
            - secretRef: {name: {{ include "triton.s3Secret" $ }}}
          {{- end }}
          {{- end }}
          ports:
            - {name: http, containerPort: 8000}
            - {name: grpc, containerPort: 8001}
            - {name: metrics, containerPort: 8002}
          resources:
            {{- $limits := dict .resource (.count | default 1) }}
            {{- toYaml (mergeOverwrite (deepCopy (.resources | default dict)) (dict "limits" (merge $limits ((.resources | default dict).limits | default dict)))) | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          startupProbe:
            httpGet: {path: /v2/health/ready, port: http}
            periodSeconds: 1
            failureThreshold: {{ $.Values.startupSeconds }}
          readinessProbe:
            httpGet: {path: /v2/health/ready, port: http}
            periodSeconds: 3
            timeoutSeconds: 5
          livenessProbe:
            httpGet: {path: /v2/health/live, port: http}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 6
          lifecycle:
            preStop:
              sleep: {seconds: {{ $.Values.leaveSeconds }}}
          volumeMounts:
            - {name: scratch, mountPath: /tmp}
            - {name: shm, mountPath: /dev/shm}
            {{- if $files }}
            {{- range uniq $folders }}
            # A model's own folder: the links that a ConfigMap consists of would look like models.
            - {name: models, mountPath: /models/{{ . }}, subPath: {{ . }}, readOnly: true}
            {{- end }}
            {{- else if not $.Values.modelRepository.s3 }}
            - {name: models, mountPath: /models, readOnly: true}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: {sizeLimit: {{ $.Values.scratch }}}
        - name: shm
          emptyDir: {medium: Memory, sizeLimit: {{ $.Values.sharedMemory }}}
        {{- with $.Values.modelRepository }}
        {{- if .files }}
        - name: models
          configMap:
            name: {{ $.Release.Name }}-models
            items:
              {{- range $path, $_ := .files }}
              - {key: {{ include "triton.key" $path }}, path: {{ $path | quote }}}
              {{- end }}
        {{- else if .pvc }}
        - name: models
          persistentVolumeClaim: {claimName: {{ .pvc.claimName }}, readOnly: true}
        {{- else if .hostPath }}
        - name: models
          hostPath: {path: {{ .hostPath }}, type: Directory}
        {{- end }}
        {{- end }}
{{- end }}
