"""A real single-node Kubernetes on a Debian machine with Go and root and no container engine.

`cluster.up` is the way in: build what is missing (`builds`), install what is missing (`packages`), clear what a dead
run left (`recover`), then start the control plane, the node and the add-ons, each in the module of that name.
"""
