"""k8s/local: what can be tried without starting a node. The node itself is tried by `make e2e`."""
