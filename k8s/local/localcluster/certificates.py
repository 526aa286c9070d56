"""The cluster's authorities, certificates and kubeconfigs: how its parts know each other.

pki/ca, front-proxy-ca, etcd-ca     the three authorities
pki/NAME.crt, NAME.key              who a daemon is to the others
NAME.kubeconfig                     admin, controller-manager, scheduler, kube-proxy, kubelet, netpol, provisioner
"""

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcluster.paths import NODE, Layout

KUBERNETES_IP = "10.96.0.1"
"""Where pods reach the API server: the first address of the Services' range."""
LIFETIME = datetime.timedelta(days=3650)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

API_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    KUBERNETES_IP,
)
USERS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "netpol": ("chatbot:netpol", None),
    "provisioner": ("chatbot:provisioner", None),
}
"""Who has a kubeconfig: common name and group."""


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(layout: Layout) -> None:
    """Make everything, unless it is there. Raises `OSError`."""
    if layout.kubeconfig.exists():
        return
    layout.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    cluster = _authority(layout, "ca", "kubernetes-ca")
    front = _authority(layout, "front-proxy-ca", "front-proxy-ca")
    etcd = _authority(layout, "etcd-ca", "etcd-ca")
    node_names = (NODE, layout.node_ip, "localhost", "127.0.0.1")
    _issue(layout, "apiserver", cluster, "kube-apiserver", names=(*API_NAMES, layout.node_ip))
    _issue(layout, "apiserver-kubelet-client", cluster, "kube-apiserver-kubelet-client", "system:masters")
    _issue(layout, "kubelet-server", cluster, f"system:node:{NODE}", "system:nodes", node_names)
    _issue(layout, "front-proxy-client", front, "front-proxy-client")
    _issue(layout, "etcd-server", etcd, "etcd", names=("localhost", "127.0.0.1"))
    _issue(layout, "etcd-client", etcd, "kube-apiserver")
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write(layout.pki / "sa.key", _private(accounts))
    _write(layout.pki / "sa.pub", _public(accounts))
    # The administrator's comes last: where it is, the others are.
    for user, (name, group) in reversed(USERS.items()):
        _issue(layout, user, cluster, name, group)
        _write(layout.kubeconfig_of(user), _kubeconfig(layout, user))


def _authority(layout: Layout, file: str, name: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    certificate = _certificate(subject, subject, key, authority=True).sign(key, hashes.SHA256())
    _save(layout, file, certificate, key)
    return _Authority(certificate, key)


def _issue(
    layout: Layout, file: str, by: _Authority, name: str, group: str | None = None, names: Sequence[str] = ()
) -> None:
    """A server's certificate when it has names, else a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _certificate(_subject(name, group), by.certificate.subject, key, authority=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([SERVER if names else CLIENT]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    _save(layout, file, builder.sign(by.key, hashes.SHA256()), key)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str, group: str | None = None) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _kubeconfig(layout: Layout, user: str) -> bytes:
    def data(file: str) -> str:
        return base64.b64encode((layout.pki / file).read_bytes()).decode()

    cluster = {"server": layout.server, "certificate-authority-data": data("ca.crt")}
    credentials = {"client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chatbot", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "chatbot", "context": {"cluster": "chatbot", "user": user}}],
            "current-context": "chatbot",
        }
    ).encode()


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _save(layout: Layout, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _write(layout.pki / f"{file}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(layout.pki / f"{file}.key", _private(key))


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
