{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* What contradicts itself, in one sentence each. */ -}}
{{- define "headlight.check" -}}
{{- $values := .Values -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- $period := .Values.probes.periodSeconds -}}
{{- if and $values.tokens.secretName (not $values.tls.secretName) (not (index $values.config "allow-plaintext")) -}}
{{- fail "tokens.secretName: got no tls.secretName with it; wanted that, or config.allow-plaintext: true where a mesh encrypts" -}}
{{- end -}}
{{- if and $values.tls.clientCa.secretName (not $values.tls.secretName) -}}
{{- fail "tls.clientCa.secretName: wanted tls.secretName with it" -}}
{{- end -}}
{{- if lt (int $values.lameDuckSeconds) (mul 2 $period | int) -}}
{{- fail (printf "lameDuckSeconds: got %v, wanted twice probes.periodSeconds, %v, or more" $values.lameDuckSeconds $period) -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas: got %v, wanted at most maxReplicas, %v" .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if and .enabled (not .backlogMilliseconds) (not .cpuUtilization) -}}
{{- fail "autoscaling: wanted backlogMilliseconds, cpuUtilization or both" -}}
{{- end -}}
{{- end -}}
{{- $least := include "headlight.leastReplicas" . | int -}}
{{- if and $budget.enabled (gt $least 1) (ge (int $budget.maxUnavailable) $least) -}}
{{- fail (printf "podDisruptionBudget.maxUnavailable: got %v, wanted fewer than the %d replicas" $budget.maxUnavailable $least) -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (not $values.networkPolicy.egress) -}}
{{- if eq (include "headlight.modelSource" .) "initContainer" -}}
{{- fail "networkPolicy.egress: got none, wanted where models.initContainer fetches from" -}}
{{- end -}}
{{- if index $values.config "otlp-endpoint" -}}
{{- fail "networkPolicy.egress: got none, wanted where config.otlp-endpoint is" -}}
{{- end -}}
{{- end -}}
{{- end }}
