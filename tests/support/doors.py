"""TCP ports in front of a store's socket, through which tests lose it in every way a network can."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Negotiation = Literal["at once", "postgres"]
"""When TLS begins: with the connection, or after Postgres's question for it."""


class Door:
    """One port. `freeze` is a node that vanished: connections there are get no byte more, and no end either."""

    def __init__(self, socket: Path, tls: ssl.SSLContext | None, negotiation: Negotiation) -> None:
        self._socket = socket
        self._tls = tls
        self._negotiation = negotiation
        self._writers: list[asyncio.StreamWriter] = []
        self._visits: set[asyncio.Task[None]] = set()
        self._thaw: list[asyncio.Event] = []
        self.port = 0

    def freeze(self) -> None:
        for event in self._thaw:
            event.clear()
        self._thaw.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visits.add(asyncio.create_task(self._visit(reader, writer)))

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self._tls and self._negotiation == "postgres":
                await reader.readexactly(8)
                writer.write(b"S")
                await writer.start_tls(self._tls)
            there, back = await asyncio.open_unix_connection(self._socket)
            self._writers.append(back)
            flowing = asyncio.Event()
            flowing.set()
            self._thaw.append(flowing)
            await asyncio.gather(_copy(reader, back, flowing), _copy(there, writer, flowing))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
    await flowing.wait()
    writer.close()


@contextlib.asynccontextmanager
async def door(
    socket: Path, port: int = 0, tls: ssl.SSLContext | None = None, negotiation: Negotiation = "at once"
) -> AsyncIterator[Door]:
    """A port while the block runs; its connections die with the block."""
    opened = Door(socket, tls, negotiation)
    server = await asyncio.start_server(opened.accept, "127.0.0.1", port, ssl=tls if negotiation == "at once" else None)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        await opened.close()


def _named(host: str | None) -> x509.GeneralName:
    return x509.DNSName(host) if host else x509.IPAddress(ip_address("127.0.0.1"))


def certified(folder: Path, host: str | None = None) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for 127.0.0.1 or a host name, and the file of the authority that signed it: itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a store")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_named(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    authority, private = folder / "ca.crt", folder / "tls.key"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, private)
    return context, authority
