{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* The file of --config: values.config and what the chart knows better, one option a line. Not toToml, which writes
       whole numbers as fractions. */ -}}
{{- define "headlight.options" -}}
{{- $own := dict "log-format" "json" "lame-duck-s" .Values.lameDuckSeconds -}}
{{- if include "headlight.modelSource" . -}}
{{- if .Values.models.name }}{{ $_ := set $own "model" (list (printf "%s=/models" .Values.models.name)) -}}
{{- else }}{{ $_ := set $own "model-repository" "/models" }}{{ end -}}
{{- end -}}
{{- with .Values.tls.secretName -}}
{{- $_ := set $own "tls-cert" "/etc/headlight/tls/tls.crt" -}}
{{- $_ := set $own "tls-key" "/etc/headlight/tls/tls.key" -}}
{{- end -}}
{{- with .Values.tls.clientCa -}}
{{- if .secretName }}{{ $_ := set $own "tls-client-ca" (printf "/etc/headlight/client-ca/%s" .key) }}{{ end -}}
{{- end -}}
{{- with .Values.tokens -}}
{{- if .secretName }}{{ $_ := set $own "tokens" (printf "/etc/headlight/tokens/%s" .key) }}{{ end -}}
{{- end -}}
{{- $options := merge (deepCopy .Values.config) $own -}}
{{- range $name := keys $options | sortAlpha }}
{{- $value := index $options $name }}
{{ $name }} = {{ include "headlight.toml" $value }}
{{- end }}
{{- end }}

{{- define "headlight.toml" -}}
{{- if kindIs "string" . }}{{ quote . -}}
{{- else if kindIs "bool" . }}{{ . -}}
{{- else if kindIs "slice" . }}[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ quote $item }}{{ end }}]
{{- else if eq (float64 .) (int64 . | float64) }}{{ int64 . -}}
{{- else }}{{ . -}}
{{- end -}}
{{- end }}
