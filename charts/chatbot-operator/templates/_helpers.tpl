{{/* Name of every object: the release's, with the chart's unless it is part of it. At most 50, so that suffixes fit. */}}
{{- define "chatbot-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "chatbot-operator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chatbot-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chatbot-platform
{{ include "chatbot-operator.selector" . }}
{{- end }}

{{- define "chatbot-operator.serviceAccount" -}}
{{- default (include "chatbot-operator.fullname" .) .Values.serviceAccount.name -}}
{{- end }}

{{/* Whether the API server is to refuse what a former leader still writes: a policy is an object of the cluster. */}}
{{- define "chatbot-operator.fenced" -}}
{{- if and .Values.fencing.enabled (not .Values.watchNamespaces) -}}yes{{- end -}}
{{- end }}

{{/* An image's full reference. Takes a list: the root, repository, tag. */}}
{{- define "chatbot-operator.image" -}}
{{- $root := index . 0 -}}
{{- $prefix := ternary (printf "%s/" (trimSuffix "/" $root.Values.registry)) "" (ne $root.Values.registry "") -}}
{{- printf "%s%s:%s" $prefix (index . 1) (index . 2) -}}
{{- end }}

{{/* What the operator is told, as JSON: the fields of chatbot_operator.settings.Settings. */}}
{{- define "chatbot-operator.settings" -}}
{{- if ge (float64 .Values.operator.lease.renewSeconds) (float64 .Values.operator.lease.durationSeconds) -}}
{{- fail "operator.lease.renewSeconds must be less than durationSeconds, or no leader lasts" -}}
{{- end -}}
{{- $tag := default .Chart.AppVersion .Values.images.tag -}}
{{- $images := dict "weaviate" (default (include "chatbot-operator.image" (list . "semitechnologies/weaviate" "1.39.0")) .Values.images.weaviate) -}}
{{- range $name, $repository := dict "gateway" "chatbot-gateway" "auth" "chatbot-auth" "chat" "chatbot-chat" "conversation" "chatbot-conversation" "postgres" "chatbot-postgres" "redis" "chatbot-valkey" -}}
{{- $_ := set $images $name (default (include "chatbot-operator.image" (list $ $repository $tag)) (index $.Values.images $name)) -}}
{{- end -}}
{{- $lease := dict "namespace" .Release.Namespace "duration" .Values.operator.lease.durationSeconds "renew" .Values.operator.lease.renewSeconds -}}
{{- if include "chatbot-operator.fenced" . -}}
{{- $_ := set $lease "account" (include "chatbot-operator.serviceAccount" .) -}}
{{- end -}}
{{- dict
  "version" $tag
  "images" $images
  "image_pull_policy" .Values.images.pullPolicy
  "watch_namespaces" .Values.watchNamespaces
  "lease" $lease
  "resync_seconds" .Values.operator.resyncSeconds
  "workers" .Values.operator.workers
  "probe_port" 8080
  "log_level" .Values.operator.logLevel
| toPrettyJson -}}
{{- end }}

{{/* What the operator may do where its resources are. No wildcard, and nothing it does not do. */}}
{{- define "chatbot-operator.rules" -}}
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments]
  verbs: [get, list, watch]
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments/status]
  verbs: [get, patch, update]
# To set owner references that hold their owner back until the child is gone.
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps, secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Head of an object. Takes a list: the root, suffix of the name, namespace ("" for the cluster's own). */}}
{{- define "chatbot-operator.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: {{ include "chatbot-operator.fullname" $root }}{{ index . 1 }}
  {{- with index . 2 }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "chatbot-operator.labels" $root | nindent 4 }}
{{- end }}

{{/* The operator's account as a subject of bindings. */}}
{{- define "chatbot-operator.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "chatbot-operator.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
