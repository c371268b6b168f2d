"""A request's body to records: inflated, decoded by the source's Format; rejects keep the request's headers.

The answer that the request gets once they are committed is made here too, because nobody keeps the body until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ingest.event import Event, Origin, Reason, Record, Reject
from ingest.formats.body import is_array
from ingest.formats.decoded import with_surroundings
from ingest.formats.gzip import MalformedGzip, gunzip
from ingest.protocols import Format
from ingest.sources.webhook.answers import ANSWERS, Answer, receipt
from ingest.sources.webhook.credentials import Credentials
from ingest.sources.webhook.kept_headers import kept_headers

Decoded = tuple[Sequence[Record], Answer]
"""The records of a request, and its answer where all of them are committed."""

_STORED = ANSWERS[204]


class UnknownEncoding(Exception):
    """A Content-Encoding that is not gzip."""


class BodyDecoder:
    """The decoder of one endpoint.

    `receipt`: prefixes of names. A request that is one such event, and no array or lines, is answered with its id.
    """

    def __init__(self, origin: Origin, format_: Format, credentials: Credentials, receipt: Sequence[str]) -> None:
        self._origin = origin
        self._format = format_
        self._credentials = credentials
        self._receipt = tuple(receipt)

    def decode(self, headers: Mapping[str, str], body: bytes, received_at: datetime, most_bytes: int) -> Decoded:
        """Decode a body. Raises UnknownEncoding, TooLarge, and InflatesTooFar beyond `most_bytes`."""
        if "content-encoding" in headers:
            encoding = headers["content-encoding"].strip().lower()
            if encoding in {"gzip", "x-gzip"}:
                return self._decode_gzip(headers, body, received_at, most_bytes)
            if encoding not in {"", "identity"}:
                raise UnknownEncoding(encoding)
        return self._decode_inflated(headers, body, received_at)

    def _decode_inflated(self, headers: Mapping[str, str], body: bytes, received_at: datetime) -> Decoded:
        records = self._format.decode(body, headers, received_at)
        if Reject in map(type, records):
            return self._with_headers(records, headers), _STORED
        return records, self._receipt_for(records, body) if self._receipt else _STORED

    def _receipt_for(self, records: Sequence[Record], body: bytes) -> Answer:
        """Return the answer that waits for the commit of these records."""
        if len(records) == 1 and isinstance(event := records[0], Event) and event.name.startswith(self._receipt):
            return _STORED if is_array(body) else receipt(event.id)
        return _STORED

    def _decode_gzip(self, headers: Mapping[str, str], body: bytes, received_at: datetime, most_bytes: int) -> Decoded:
        try:
            inflated = gunzip(body, most_bytes)
        except MalformedGzip:
            reject = Reject(
                source=self._origin.source,
                mode=self._origin.mode,
                received_at=received_at,
                reason=Reason.MALFORMED_GZIP,
                body=body,
            )
            return self._with_headers([reject], headers), _STORED
        inflated_headers = {name: value for name, value in headers.items() if name != "content-encoding"}
        return self._decode_inflated(inflated_headers, inflated, received_at)

    def _with_headers(self, records: Sequence[Record], headers: Mapping[str, str]) -> Sequence[Record]:
        return with_surroundings(records, headers=kept_headers(headers, self._credentials, self._format.headers))
