{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "headlight.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* gRPC health, which the kubelet can ask in plain text alone; else the same over HTTP. */ -}}
{{- define "headlight.readiness" -}}
{{- if .Values.tls.secretName -}}
httpGet: {path: /readyz, port: admin}
{{- else -}}
grpc: {port: 8001}
{{- end }}
periodSeconds: {{ .Values.probes.periodSeconds }}
timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
{{- end }}
