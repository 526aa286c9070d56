{{/* An image's full reference. Takes a list: the root, repository, tag. A digest says it all. */}}
{{- define "chatbot-operator.image" -}}
{{- $root := index . 0 -}}
{{- $prefix := ternary (printf "%s/" (trimSuffix "/" $root.Values.registry)) "" (ne $root.Values.registry "") -}}
{{- $tag := ternary "" (printf ":%s" (index . 2)) (contains "@" (index . 1)) -}}
{{- printf "%s%s%s" $prefix (index . 1) $tag -}}
{{- end }}

{{/* What the operator is told, as JSON: the fields of chatbot_operator.settings.Settings. */}}
{{- define "chatbot-operator.settings" -}}
{{- $lease := .Values.operator.lease -}}
{{- if gt (mulf 2 $lease.renewSeconds) (float64 $lease.durationSeconds) -}}
{{- fail "operator.lease.renewSeconds must be at most half of durationSeconds, or no leader lasts" -}}
{{- end -}}
{{- $tag := default .Chart.AppVersion .Values.images.tag -}}
{{- $ours := dict "gateway" "chatbot-gateway" "auth" "chatbot-auth" "chat" "chatbot-chat"
  "conversation" "chatbot-conversation" "postgres" "chatbot-postgres" "redis" "chatbot-valkey" -}}
{{- $weaviate := include "chatbot-operator.image" (list . "semitechnologies/weaviate" "1.39.0") -}}
{{- $images := dict "weaviate" (default $weaviate .Values.images.weaviate) -}}
{{- range $name, $repository := $ours -}}
{{- $image := include "chatbot-operator.image" (list $ $repository $tag) -}}
{{- $_ := set $images $name (default $image (index $.Values.images $name)) -}}
{{- end -}}
{{- $election := dict "namespace" .Release.Namespace "duration" $lease.durationSeconds "renew" $lease.renewSeconds -}}
{{- if include "chatbot-operator.fenced" . -}}
{{- $_ := set $election "account" (include "chatbot-operator.serviceAccount" .) -}}
{{- end -}}
{{- $secrets := list -}}
{{- range .Values.imagePullSecrets }}{{ $secrets = append $secrets .name }}{{ end -}}
{{- dict
  "version" $tag
  "images" $images
  "image_pull_policy" .Values.images.pullPolicy
  "image_pull_secrets" $secrets
  "watch_namespaces" .Values.watchNamespaces
  "lease" $election
  "resync_seconds" .Values.operator.resyncSeconds
  "workers" .Values.operator.workers
  "probe_port" 8080
  "log_level" .Values.operator.logLevel
  "monitor_labels" .Values.monitoring.labels
  "otlp_endpoint" .Values.telemetry.otlp.endpoint
| toPrettyJson -}}
{{- end }}
