"""The certificates that Google signs its tokens with: fetched, and kept for as long as Google says.

Whoever asks for them is told at once what is known now; nobody ever waits for a fetch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import uniform

import httpx
import msgspec
import structlog

from ingest.retrying import Backoff, Pauses, wait_at_most
from ingest.times import elapsed

GOOGLE_CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?![^\s,])", re.IGNORECASE)
_UNSAID_AGE_SECONDS = 300.0  # where there is no max-age
_LONGEST_AGE_SECONDS = 86_400.0
_MOST_MISSING = 64
_STEP_SECONDS = 1.0  # of waiting, as a timer of the event loop stands still while the machine sleeps

_certificates = msgspec.json.Decoder(dict[str, str]).decode

log = structlog.get_logger(__name__)


class NoCertificates(ValueError):
    """The answer that came instead of them."""


@dataclass(frozen=True, slots=True)
class FetchRules:
    """Seconds: the least between two fetches that succeed; how long one may take; pauses after one that fails.

    `early`: the part of their age after which keys are fetched again. What is left is for attempts that fail.
    """

    least: float = 60.0
    timeout: float = 10.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    early: float = 0.75


class SigningKeys:
    """credentials.KeyRefresher: certificates in PEM by key id, from `url`; `clock` in seconds.

    The clock should go on while the machine sleeps.
    """

    def __init__(
        self, url: str = GOOGLE_CERTIFICATES, rules: FetchRules | None = None, clock: Callable[[], float] = elapsed
    ) -> None:
        self.url = url
        self._rules = rules or FetchRules()
        self._clock = clock
        self._keys: Mapping[str, str] = {}
        self._fetched_at = self._as_of = self._expires_at = clock()
        self._missing: dict[str, float] = {}  # key ids, and when each was first asked for
        self._failure: str | None = None
        self._wanted = asyncio.Event()

    def current(self) -> Mapping[str, str] | None:
        """Return the keys in force; None where they are not there yet, or older than they may become."""
        if self._clock() < self._expires_at:
            return self._keys
        self._wanted.set()  # after a sleep of the machine nobody else would notice
        return None

    def look_for(self, key_id: str) -> bool:
        """Note that a key is missing.

        Return True where it may be new, and will be fetched for; False where what was fetched has it not.

        Keys are fetched once a minute at most, however many key ids strangers make up; those are forgotten in turn.
        """
        if key_id not in self._missing:
            self._note_missing(key_id, self._clock())
        if self._missing[key_id] < self._as_of:
            return False
        self._wanted.set()
        return True

    def _note_missing(self, key_id: str, since: float) -> None:
        if len(self._missing) >= _MOST_MISSING:
            del self._missing[next(iter(self._missing))]
        self._missing[key_id] = since

    def trouble(self) -> str | None:
        """See credentials.KeyRefresher."""
        if self._clock() < self._expires_at:
            return None
        return f"the keys that Google signs with are not there: {self._failure or 'they are being fetched'}"

    async def run(self) -> None:
        """Fetch now and again, until cancelled. HTTPS_PROXY and the like are honoured."""
        async with self._client() as client:
            pauses = Pauses(Backoff(self._rules.first_pause, self._rules.longest_pause), uniform)
            while True:
                before = self._failure
                fetched = await self._fetched(client)
                self._log_change(before)
                if fetched:
                    pauses.reset()
                    await self._rest()
                else:
                    await asyncio.sleep(pauses.next_seconds())

    async def probe(self) -> str | None:
        """Fetch once: why that fails, or None."""
        async with self._client() as client:
            await self._fetched(client)
        return self._failure

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._rules.timeout,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=True,
            headers={"User-Agent": "headrace"},
        )

    async def _fetched(self, client: httpx.AsyncClient) -> bool:
        """Return whether the keys are new now."""
        asked_at = self._clock()
        try:
            async with asyncio.timeout(self._rules.timeout):  # httpx's own is for each read
                response = await client.get(self.url)
            keys = _read(response)
        except (httpx.HTTPError, OSError, ValueError) as error:
            self._failure = _said(error)
            return False
        self._failure = None
        self._wanted.clear()  # whoever wanted keys meanwhile has them
        for withdrawn in self._keys.keys() - keys.keys():
            self._note_missing(withdrawn, float("-inf"))
        self._keys, self._fetched_at = keys, self._clock()
        spent = _age_spent(response.headers)
        self._as_of = asked_at - spent
        self._expires_at = asked_at + max(_age_allowed(response.headers) - spent, self._rules.least)
        return True

    def _log_change(self, before: str | None) -> None:
        """Log only the first of several failures, and that they are over."""
        if before is None and self._failure is not None:
            log.warning("signing_keys_not_fetched", url=self.url, error=self._failure)
        elif before is not None and self._failure is None:
            log.info("signing_keys_fetched", url=self.url)

    async def _rest(self) -> None:
        """Wait until the keys grow old, or somebody wants them anew and the last fetch was not just now."""
        if not await wait_at_most(self._wanted, (self._expires_at - self._clock()) * self._rules.early):
            return
        while (left := self._fetched_at + self._rules.least - self._clock()) > 0:  # noqa: ASYNC110 - our own clock
            await asyncio.sleep(min(left, _STEP_SECONDS))


def _read(response: httpx.Response) -> Mapping[str, str]:
    """Read certificates. Raises ValueError where it is something else than certificates."""
    if response.status_code != 200:
        raise NoCertificates(f"the answer is {response.status_code}")
    keys = _certificates(response.content)
    if not keys or not all("-----BEGIN CERTIFICATE-----" in pem for pem in keys.values()):
        raise NoCertificates("the answer is something else")
    return keys


def _age_allowed(headers: Mapping[str, str]) -> float:
    """For how many seconds an answer may be kept (RFC 9111 §4.2), with those for which a cache has held it."""
    said = _MAX_AGE.search(headers.get("cache-control", ""))
    return _UNSAID_AGE_SECONDS if said is None else min(float(said[1]), _LONGEST_AGE_SECONDS)


def _age_spent(headers: Mapping[str, str]) -> float:
    """For how many seconds a cache has held an answer."""
    age = headers.get("age", "").strip()
    return min(float(age), _LONGEST_AGE_SECONDS) if age.isascii() and age.isdigit() else 0.0


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:200]
