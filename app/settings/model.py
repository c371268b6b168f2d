"""The whole configuration as immutable values, each with the default that the documentation gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, IPvAnyNetwork, PrivateAttr, model_validator

from app.handlers import AnyHandlerSettings
from app.settings.sources import SourceSettings
from ingest.errors import ConfigurationError
from ingest.settings.fields import STRICT, Label, Text, split_text
from ingest.settings.quantities import Count, Duration, Retention, Size, parse_count
from ingest.settings.secret import Secret, masked_url
from ingest.sources import modes
from storage.engine import read_url

DATABASE_SCHEMES = ("sqlite:///", "postgres://", "postgresql://")
_LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Return True where only this machine can reach a server bound to `host`."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _database_url(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.startswith(DATABASE_SCHEMES):
        raise ValueError(f"expected a URL that begins with {', '.join(DATABASE_SCHEMES)}")
    try:
        read_url(value)
    except ConfigurationError as error:
        raise ValueError(str(error).removeprefix("store.url: ")) from None
    return Secret(value, shown=masked_url(value))


def _path(value: Any) -> Any:
    if value == "":
        raise ValueError("expected a path, or leave it out")
    return value


def _file(path: Path) -> Path:
    if not os.path.isfile(path):  # never raises, unlike Path.is_file
        raise ValueError("expected a file that is there")
    return path


File = Annotated[Path, AfterValidator(_file)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(lambda value: (value,) if isinstance(value, Secret) else value)]


class SecretFile(Protocol):
    """A file that a secret follows; `key` names the secret."""

    key: str

    def fault(self) -> str | None:
        """Return why it cannot be read now, so that its last text stays in force; None where it can."""
        ...


class ServerSettings(BaseModel):
    """The address where we listen. `drain_delay` is zero on loopback where nothing else is said: no load balancer
    looks there.
    """

    model_config = STRICT

    host: Text = _LOOPBACK
    port: Annotated[int, BeforeValidator(parse_count), Field(ge=0, le=65535)] = 8000
    drain_delay: Duration = timedelta(seconds=5)
    tls_cert: File | None = None
    tls_key: File | None = None
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(split_text)] = ()

    @model_validator(mode="before")
    @classmethod
    def _drains_at_once_on_loopback(cls, values: Any) -> Any:
        if isinstance(values, dict) and is_loopback(str(values.get("host", _LOOPBACK))):
            return {"drain_delay": "0s", **values}
        return values


class AccessSettings(BaseModel):
    """The tokens of those who may read and who may act; several for rotation.

    `action_token` is made by `serve`, not configured.
    """

    model_config = STRICT

    read_tokens: Secrets = ()
    admin_tokens: Secrets = ()
    open: bool = False
    open_metrics: bool = False

    _action_token: Secret | None = PrivateAttr(default=None)

    @property
    def action_token(self) -> Secret | None:
        """Return the admin token of this run; None where one is configured, or nothing serves."""
        return self._action_token

    def with_action_token(self, token: str) -> Self:
        """Return the same settings with an admin token for this run, where none is configured."""
        settings = self.model_copy()
        settings._action_token = None if self.admin_tokens else Secret(token)
        return settings


class StoreSettings(BaseModel):
    """The database, `retention` (None is for ever), the inbox before it (events and bytes), and the file of a spool."""

    model_config = STRICT

    url: Annotated[Secret, BeforeValidator(_database_url)] = Secret("sqlite:///headrace.db", "sqlite:///headrace.db")
    retention: Retention = timedelta(days=30)
    inbox_events: Count = 20_000
    inbox_bytes: Size = 64 << 20
    spool: Annotated[Path, BeforeValidator(_path)] | None = None


class Settings(BaseModel):
    """Everything that was configured; `folder` is where the configuration file lies (modules of handlers too)."""

    model_config = STRICT

    server: ServerSettings = ServerSettings()
    access: AccessSettings = AccessSettings()
    store: StoreSettings = StoreSettings()
    sources: Mapping[Label, SourceSettings]
    handlers: Mapping[Label, AnyHandlerSettings] = Field(default_factory=dict)

    _folder: Path = PrivateAttr(default=Path())
    _secret_files: Sequence[SecretFile] = PrivateAttr(default=())
    _unused_tables: Sequence[tuple[str, str]] = PrivateAttr(default=())

    @property
    def folder(self) -> Path:
        """Return the configuration file's folder; the working directory where there is no file."""
        return self._folder

    @property
    def secret_files(self) -> Sequence[SecretFile]:
        """Return the files that secrets follow."""
        return self._secret_files

    @property
    def unused_tables(self) -> Sequence[tuple[str, str]]:
        """Return source and mode of each table that was given for a mode that the source has not."""
        return self._unused_tables

    def read_from(
        self, folder: Path, secret_files: Sequence[SecretFile], unused_tables: Sequence[tuple[str, str]]
    ) -> Self:
        """Return the same settings with what is known of their file: its `folder`, and what is in it."""
        settings = self.model_copy()
        settings._folder, settings._secret_files, settings._unused_tables = folder, secret_files, unused_tables
        return settings

    @model_validator(mode="before")
    @classmethod
    def _fill_from_labels(cls, tree: Any) -> Any:
        """Fill in defaults that depend on the label; and one source that takes everything where none is named."""
        sources = tree.get("sources") or {"default": {}}
        if not isinstance(sources, dict):
            return tree
        return {**tree, "sources": {label: _labelled(label, source) for label, source in sources.items()}}


def _labelled(label: str, source: Any) -> Any:
    if not isinstance(source, dict):
        return source
    product = source.get("product", label)
    if isinstance(product, dict):
        product, slug = {"default": label, **product}, ""
    else:
        slug = str(product)
    tables = {name: source.get(name, {}) for name in modes()}
    for name, table in tables.items():
        if isinstance(table, dict):
            tables[name] = {**modes()[name].defaults(label, slug), **table}
    return {**source, "product": product, **tables}
