{{/* Name of every object: the release's, with the chart's unless it is part of it. At most 50, so that suffixes fit. */}}
{{- define "chatbot-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimAll "-" -}}
{{- end }}

{{/* The chart's own name, whatever objects are called: by it the network policies of every chatbot let the operator in. */}}
{{- define "chatbot-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "chatbot-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chatbot-platform
{{ include "chatbot-operator.selector" . }}
{{- end }}

{{/* Head of an object. Takes a list: the root, suffix of the name, namespace ("" for the cluster's own). */}}
{{- define "chatbot-operator.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: {{ printf "%s%s" (include "chatbot-operator.fullname" $root) (index . 1) | quote }}
  {{- with index . 2 }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "chatbot-operator.labels" $root | nindent 4 }}
{{- end }}

{{- define "chatbot-operator.serviceAccount" -}}
{{- default (include "chatbot-operator.fullname" .) .Values.serviceAccount.name -}}
{{- end }}

{{/* What a binding binds to whom. Takes a list: the root, kind of the role, suffix of its name. */}}
{{- define "chatbot-operator.binding" -}}
{{- $root := index . 0 -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 1 }}
  name: {{ printf "%s%s" (include "chatbot-operator.fullname" $root) (index . 2) | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "chatbot-operator.serviceAccount" $root | quote }}
    namespace: {{ $root.Release.Namespace | quote }}
{{- end }}

{{/* Whether an object of the Prometheus operator is wanted: "true" or nothing. Takes a list: the root, the value, the kind. */}}
{{- define "chatbot-operator.monitors" -}}
{{- $root := index . 0 -}}
{{- $there := $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 2)) -}}
{{- if or (eq (index . 1) "Always") (and (eq (index . 1) "Auto") $there) -}}true{{- end -}}
{{- end }}

{{/* Whether the API server is to refuse what a former leader still writes: a policy is an object of the cluster. */}}
{{- define "chatbot-operator.fenced" -}}
{{- if and .Values.fencing.enabled (not .Values.watchNamespaces) -}}yes{{- end -}}
{{- end }}
