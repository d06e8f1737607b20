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
{{- $config := $values.config -}}
{{- $source := include "headlight.modelSource" . -}}
{{- if and $config.model $values.models.name -}}
{{- fail "config.model: got models.name beside it, wanted one of them" -}}
{{- end -}}
{{- if and $config.load (or (not $source) $values.models.name) -}}
{{- fail "config.load: wanted a repository of models with it, one of models' volumes without models.name" -}}
{{- end -}}
{{- if and (index $config "repository-poll-s") (not $source) (not $config.model) -}}
{{- fail "config.repository-poll-s: wanted one of models' volumes with it" -}}
{{- end -}}
{{- $deadline := index $config "max-deadline-ms" | int64 -}}
{{- if and $deadline (gt (index $config "default-deadline-ms" | int64) $deadline) -}}
{{- fail (printf "config.default-deadline-ms: got more than config.max-deadline-ms, %d" $deadline) -}}
{{- end -}}
{{- $limit := index $config "memory-limit" | int64 -}}
{{- if and $limit (gt (index $config "memory-for-models" | int64) $limit) -}}
{{- fail (printf "config.memory-for-models: got more than config.memory-limit, %d" $limit) -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (not $values.networkPolicy.egress) -}}
{{- if eq $source "initContainer" -}}
{{- fail "networkPolicy.egress: got none, wanted where models.initContainer fetches from" -}}
{{- end -}}
{{- if index $values.config "otlp-endpoint" -}}
{{- fail "networkPolicy.egress: got none, wanted where config.otlp-endpoint is" -}}
{{- end -}}
{{- end -}}
{{- end }}
