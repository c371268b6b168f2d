"""Every auth type of the settings has its credentials, and what must run for them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from app.settings import Secret
from ingest.sources.webhook.auth import AnyAuth, AuthSettings, GoogleOidcAuth
from ingest.sources.webhook.oidc import GoogleOidc
from ingest.sources.webhook.signing_keys import GOOGLE_CERTIFICATES, SigningKeys

SECRETS = (Secret("dXNlcjpwYXNzd29yZA=="),)
NEEDS: dict[str, dict[str, Any]] = {
    "none": {},
    "header": {"name": "X-Key", "secrets": SECRETS},
    "query": {"name": "key", "secrets": SECRETS},
    "basic": {"secrets": (Secret("user:password"),)},
    "hmac": {"header": "X-Signature", "secrets": SECRETS},
    "google-oidc": {"audience": "https://h/ingest/fleet", "email": "push@project.iam.gserviceaccount.com"},
}


TYPES = [model.model_fields["type"].default for model in get_args(AnyAuth)]


@pytest.mark.parametrize("auth_type", TYPES)
def test_every_type_has_credentials(auth_type: str) -> None:
    """A bare request is let in by none of them but `none`, and only Google's keys need somebody to keep them."""
    adapter: TypeAdapter[AnyAuth] = TypeAdapter(AuthSettings)
    settings = adapter.validate_python({"type": auth_type, **NEEDS.get(auth_type, {"secrets": SECRETS})})
    credentials, upkeep = settings.credentials()
    assert credentials.admits({}, b"", b"") is (auth_type == "none")
    assert (upkeep is not None) is (auth_type == "google-oidc")


def test_googles_own_keys_are_asked_for() -> None:
    """The certificates come from where Google publishes them, over TLS."""
    credentials, upkeep = GoogleOidcAuth(**NEEDS["google-oidc"]).credentials()
    assert isinstance(credentials, GoogleOidc)
    assert isinstance(upkeep, SigningKeys)
    assert upkeep.url == GOOGLE_CERTIFICATES == "https://www.googleapis.com/oauth2/v1/certs"


def test_other_starts_do_not_load_googles_library() -> None:
    """It takes 40 ms and memory that only those pay who use it."""
    program = (
        "import sys, app.main, app.cli.main, app.cli.serving\n"
        "from ingest.sources.webhook.auth import NoAuth\n"
        "NoAuth().credentials()\n"
        "print([name for name in sys.modules if name.startswith(('google.auth', 'cryptography', 'google.cloud'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
