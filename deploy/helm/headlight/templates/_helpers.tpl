{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "headlight.name" -}}
{{- $name := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- if contains .Chart.Name .Release.Name }}{{ $name = .Release.Name }}{{ end -}}
{{- $name = .Values.fullnameOverride | default $name -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "headlight.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headlight.labels" -}}
{{ include "headlight.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "headlight.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "headlight.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "headlight.name" .) "default") -}}
{{- end }}

{{- /* How many pods there are at least. */ -}}
{{- define "headlight.leastReplicas" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas .Values.replicas -}}
{{- end }}

{{- /* Where models come from: one of persistentVolumeClaim, image, initContainer, or nothing. */ -}}
{{- define "headlight.modelSource" -}}
{{- $models := .Values.models -}}
{{- $sources := list -}}
{{- if $models.persistentVolumeClaim.claimName }}{{ $sources = append $sources "persistentVolumeClaim" }}{{ end -}}
{{- if $models.image.reference }}{{ $sources = append $sources "image" }}{{ end -}}
{{- if $models.initContainer.image }}{{ $sources = append $sources "initContainer" }}{{ end -}}
{{- if gt (len $sources) 1 }}{{ fail (printf "models: got %s, wanted one of them" (join " and " $sources)) }}{{ end -}}
{{- join "" $sources -}}
{{- end }}

{{- /* A pod that is killed must have had the time of its lame duck, its grace, and the goodbye of its connections; the last
       spans go to their collector after that. */ -}}
{{- define "headlight.terminationGraceSeconds" -}}
{{- add .Values.lameDuckSeconds .Values.shutdownGraceSeconds 5 (hasKey .Values.config "otlp-endpoint" | ternary 5 0) -}}
{{- end }}
