{{/*
What the operator may do where its resources are: one place for both modes. No wildcard, and nothing it does not do:
tests/chart/test_rights.py compares this with what the API server saw it do.
*/}}
{{- define "chatbot-operator.rules" -}}
{{- $all := "[list, watch, create, patch, delete]" -}}
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments]
  verbs: [get, list, watch]
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments/status]
  verbs: [patch]
# Where clusters enforce it: needed to set owner references that hold their owner back until the child is gone.
- apiGroups: [chatbot-operator.io]
  resources: [chatbotdeployments/finalizers]
  verbs: [update]
# Everything a resource is made of. Its Secrets are generated, and those it refers to are read; see the threat model.
- apiGroups: [""]
  resources: [configmaps, secrets, serviceaccounts, services]
  verbs: {{ $all }}
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments, statefulsets, controllerrevisions]
  verbs: {{ $all }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: {{ $all }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: {{ $all }}
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: {{ $all }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: {{ $all }}
# Where the cluster has these kinds.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: {{ $all }}
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: {{ $all }}
# Where the cluster has the Prometheus operator.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: {{ $all }}
# Where it has CloudNativePG.
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters, databases]
  verbs: {{ $all }}
# Growing a disk, and taking one that is to stay from its store. It deletes none: that right is asked for where clusters
# guard who takes an owner off.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
# Why something is not ready.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Which configurations are still in use.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
# Telling what was done; and why a StatefulSet or Job that lacks a pod may not make one, or a pod does not begin.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}
