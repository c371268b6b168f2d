"""A certificate for 127.0.0.1 that its own client believes, made anew for a test."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

HOST = "127.0.0.1"


def make_certificate(
    folder: Path,
    *,
    host: str = HOST,
    owner: str = "server of a test",
    valid: timedelta = timedelta(days=1),
    with_rsa: bool = False,
) -> tuple[Path, Path]:
    """The files of a self-signed certificate and its key; `valid` may lie in the past. The key is ECDSA or RSA."""
    key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What an upstream serves with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What an upstream serves with, and the file of its certificate."""
    certificate, key = make_certificate(folder)
    return server_context(certificate, key), certificate


def client_context(certificate: Path) -> ssl.SSLContext:
    """What believes that certificate, and no other."""
    return ssl.create_default_context(cafile=str(certificate))
