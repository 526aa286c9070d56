"""How a cluster is led to a process on this machine: where there are no pods, an EndpointSlice is written by hand."""

from tests.support.apiserver import Object


def endpoints(service: str, address: str, port: int, name: str = "http") -> Object:
    """Where the pods of a Service are said to be.

    Args:
        name: of the Service's port.
    """
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-here", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
    }
