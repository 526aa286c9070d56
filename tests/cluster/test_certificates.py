"""Certificates that the cluster's parts will take from each other, and from nobody else."""

import base64
import stat

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from localcluster import certificates
from localcluster.paths import Layout


@pytest.fixture(autouse=True)
def made(layout: Layout) -> None:
    certificates.ensure(layout)


def read(layout: Layout, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((layout.pki / f"{name}.crt").read_bytes())


def attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(found.value) for found in certificate.subject.get_attributes_for_oid(oid)]


@pytest.mark.parametrize(
    ("authority", "names"),
    [
        ("ca", ["apiserver", "apiserver-kubelet-client", "kubelet-server", *certificates.USERS]),
        ("front-proxy-ca", ["front-proxy-client"]),
        ("etcd-ca", ["etcd-server", "etcd-client"]),
    ],
)
def test_each_is_signed_by_its_authority_and_no_authority_itself(
    layout: Layout, authority: str, names: list[str]
) -> None:
    for name in names:
        certificate = read(layout, name)
        certificate.verify_directly_issued_by(read(layout, authority))
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_api_server_answers_to_all_its_names(layout: Layout) -> None:
    names = read(layout, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {
        "10.0.0.5",
        "10.96.0.1",
        "127.0.0.1",
    }
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_only_servers_may_serve(layout: Layout) -> None:
    def usage(name: str) -> list[x509.ObjectIdentifier]:
        return list(read(layout, name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    assert usage("kubelet-server") == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usage("admin") == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_who_is_who(layout: Layout) -> None:
    kubelet = read(layout, "kubelet")
    assert attribute(kubelet, NameOID.COMMON_NAME) == ["system:node:chatbot"]
    assert attribute(kubelet, NameOID.ORGANIZATION_NAME) == ["system:nodes"]
    assert attribute(read(layout, "netpol"), NameOID.ORGANIZATION_NAME) == []


def test_a_kubeconfig_carries_its_own_key(layout: Layout) -> None:
    config = yaml.safe_load(layout.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:16443"
    user = config["users"][0]["user"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    key = load_pem_private_key(base64.b64decode(user["client-key-data"]), None)
    assert certificate.public_key() == key.public_key()
    assert attribute(certificate, NameOID.ORGANIZATION_NAME) == ["system:masters"]


def test_nobody_else_may_read_them(layout: Layout) -> None:
    for file in (*layout.pki.glob("*.key"), *layout.run.glob("*.kubeconfig")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_call_changes_nothing(layout: Layout) -> None:
    before = layout.kubeconfig.read_bytes()
    certificates.ensure(layout)
    assert layout.kubeconfig.read_bytes() == before
