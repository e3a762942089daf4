{{- /* SPDX-License-Identifier: GPL-3.0-or-later
Copyright (c) 2026 gpufleet.mig maintainers */ -}}
{{- $given := list -}}
{{- range $kind := list "files" "pvc" "hostPath" "s3" }}
{{- if index $.Values.modelRepository $kind }}{{ $given = append $given $kind }}{{ end }}
{{- end }}
{{- if ne (len $given) 1 }}
{{- fail (printf "modelRepository needs exactly one of files, pvc, hostPath and s3; given: %s." (join ", " $given | default "none")) }}
{{- end }}
{{- if and .Values.s3Secret .Values.s3Credentials }}
{{- fail "Set s3Secret or s3Credentials, not both." }}
{{- end }}
{{- $names := list -}}
{{- range .Values.groups }}{{ $names = append $names .name }}
{{- if and .autoscaling (eq (.autoscaling.kind | default "") "keda") (not .autoscaling.prometheus) }}
{{- fail (printf "Group %s: autoscaling.kind keda needs autoscaling.prometheus, the URL that KEDA asks." .name) }}
{{- end }}
{{- end }}
{{- if ne (len $names) (len (uniq $names)) }}
{{- fail (printf "Two groups have the same name: %s." (join ", " $names)) }}
{{- end }}
