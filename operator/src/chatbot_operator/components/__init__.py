"""One pure builder per part: the resource and what was observed in, Kubernetes objects out.

`metadata`, `pods`, `reads` and `context` are shared; every other module is named after the part it builds.
"""
