"""Keys that sign as Google does, and a server of their certificates; all of it on this machine."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

AUDIENCE = "https://headrace.example/ingest/fleet"
EMAIL = "push@project.iam.gserviceaccount.com"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class SigningKey:
    """A key, and its certificate in PEM; equal by name only."""

    key_id: str
    certificate: str = field(compare=False)
    private: rsa.RSAPrivateKey = field(compare=False, repr=False)

    def token(self, header: Mapping[str, Any] | None = None, /, **claims: Any) -> str:
        """A token as Google makes it; `header` and `claims` in place of its own, those that are None left out."""
        now = int(time.time())
        right = {
            "aud": AUDIENCE,
            "azp": "113774264463038321964",
            "email": EMAIL,
            "email_verified": True,
            "exp": now + 3600,
            "iat": now,
            "iss": "https://accounts.google.com",
            "sub": "113774264463038321964",
        }
        said = {name: value for name, value in (right | claims).items() if value is not None}
        return jwt({"alg": "RS256", "kid": self.key_id, "typ": "JWT", **(header or {})}, said, self.sign)

    def sign(self, message: bytes) -> bytes:
        """RS256 (RFC 7518 §3.3)."""
        return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())


def jwt(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Sign) -> str:
    """A JSON Web Token in compact form (RFC 7515 §7.1), whatever it says."""
    signed = b".".join(_segment(json.dumps(part).encode()) for part in (header, claims))
    return b".".join((signed, _segment(sign(signed)))).decode()


def _segment(text: bytes) -> bytes:
    return urlsafe_b64encode(text).rstrip(b"=")


@functools.cache
def signing_key(key_id: str) -> SigningKey:
    """The key of this name, made once."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    return SigningKey(key_id, certificate.public_bytes(serialization.Encoding.PEM).decode(), private)


def certificates(*key_ids: str) -> dict[str, str]:
    """What Google publishes of these keys."""
    return {key_id: signing_key(key_id).certificate for key_id in key_ids}


class CertificateServer:
    """An HTTP server whose one answer can be changed while it runs; `asked` has the request lines that came."""

    def __init__(self, *key_ids: str, max_age: int = 20_000) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.headers = {"Cache-Control": f"public, max-age={max_age}, must-revalidate, no-transform"}
        self.body = b""
        self.publish(*key_ids)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/oauth2/v1/certs"

    def publish(self, *key_ids: str) -> None:
        """Answer with these certificates from now on."""
        self.status, self.body = 200, json.dumps(certificates(*key_ids)).encode()

    def answer(self, status: int, body: bytes) -> None:
        """Answer so from now on; 0 closes the connection without an answer."""
        self.status, self.body = status, body

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.partition(b"\r\n")[0].decode())
        if self.status:
            headers = {**self.headers, "Content-Length": str(len(self.body)), "Connection": "close"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {self.status} As told\r\n{lines}\r\n".encode() + self.body)
        writer.close()
        await writer.wait_closed()
