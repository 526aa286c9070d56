"""The platform's images on a machine without a container engine: the same Dockerfiles, built by buildah.

`make.images` is the way in: what changed since the last time is built, what the cluster lacks is loaded into it.
Only the base image is different: there is no registry to take one from, so `base` assembles one from Debian packages.
"""
