"""A handler tried out: one event is delivered now, whatever its cursor says, and nothing is written.

The handler is made for it, in a loop and a thread of its own. Where a server tries one whose code is the operator's, a
process is made for it too: what that code keeps for its loop stays whole, and it may end the process.
"""

from __future__ import annotations

import asyncio
import copyreg
import io
import os
import pickle
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.dispatcher.own_loop import OwnLoop
from app.settings import HandlerSettings
from ingest.deliveries import Answer
from ingest.delivery import DeliveryFailed, FailureCause, Verdict, failure_of, text_of
from ingest.errors import ConfigurationError
from ingest.event import Event
from ingest.identity import random_id
from ingest.protocols import Answering, Handler
from ingest.settings.secret import Secret
from ingest.times import instant_of

_GRACE_SECONDS = 1.0  # beyond the handler's timeout, for what does not end when it is told to
_START_SECONDS = 30.0
_PROGRAM = "from app.trial import main; main()"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a trial: how many seconds it took, what a receiver answered, and why it failed, if it did.

    `answer` has at most 500 characters; it is null where nothing answers, as a function does not.
    """

    handler: str
    id: str
    delivered: bool
    seconds: float
    status: int | None
    answer: str | None
    cause: str | None
    error: str | None


class TrialOf(NamedTuple):
    """The handler to try and the event to deliver; `folder` is where the configuration file is."""

    label: str
    settings: HandlerSettings
    folder: Path
    event: Event


class _Reply(msgspec.Struct):
    """The outcome, or why the handler cannot be made."""

    trial: Trial | None = None
    refused: str = ""


EXAMPLE = Trial(
    handler="alerts",
    id="0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40",
    delivered=False,
    seconds=0.021,
    status=503,
    answer="try later",
    cause="server_error",
    error="answered 503",
)


def sample_for(settings: HandlerSettings) -> Event:
    """Return an event that the handler's filters let through, new each time."""
    now = datetime.now(UTC)
    return Event(
        id=random_id(instant_of(now)),
        product=(*settings.products, "test")[0],
        device=(*settings.devices, "test")[0],
        name=(*settings.names, "headrace/test")[0],
        data=b'{"test":true}',
        content_type="application/json",
        published_at=now,
        received_at=now,
        source="test",
        mode="webhook",
        attributes={},
        position=0,
    )


async def try_here(of: TrialOf) -> Trial:
    """Deliver in this process. Raises ConfigurationError where the handler cannot be made."""
    found: list[Trial] = []

    async def deliver() -> None:
        found.append(await _deliver(of))

    began = time.monotonic()
    loop = OwnLoop(f"trial-{of.label}", deliver)
    done = asyncio.wrap_future(loop.done)
    try:
        await asyncio.wait([done], timeout=of.settings.timeout.total_seconds() + _GRACE_SECONDS)
    finally:
        loop.cancel()
    if done.done():
        done.result()
        return found[0]
    return _failed(of, time.monotonic() - began, TimeoutError(f"did not return, and was left behind at {loop.where()}"))


async def try_apart(of: TrialOf) -> Trial:
    """Deliver in a process of its own. Raises ConfigurationError where the handler cannot be made."""
    began = time.monotonic()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", _PROGRAM, stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(of.settings.timeout.total_seconds() + _START_SECONDS):
            written, _ = await process.communicate(_pickled(of))
    except TimeoutError:
        return _failed(of, time.monotonic() - began, TimeoutError("its process did not end"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not written:
        crash = DeliveryFailed(FailureCause.CRASHED, Verdict.DEAD, f"its process ended: {_end_of(process.returncode)}")
        return _failed(of, time.monotonic() - began, crash)
    reply = msgspec.json.decode(written, type=_Reply)
    if reply.trial is None:
        raise ConfigurationError(reply.refused)
    return reply.trial


def main() -> None:
    """Try the handler that is described on standard input, and write the outcome to standard output."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the operator's code prints is for the log
    of: TrialOf = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the server that began this process
    try:
        reply = _Reply(asyncio.run(try_here(of)))
    except ConfigurationError as error:
        reply = _Reply(refused=str(error))
    sys.stdout.flush()
    os.write(answers, msgspec.json.encode(reply))
    os._exit(0)  # whatever threads that code has left


def _pickled(of: TrialOf) -> bytes:
    """Return what the process is to try. Secrets that are read from files travel as they are now."""
    written = io.BytesIO()
    pickler = pickle.Pickler(written)
    pickler.dispatch_table = copyreg.dispatch_table | {Secret: lambda secret: (Secret, (secret.value(),))}
    pickler.dump(of)
    return written.getvalue()


async def _deliver(of: TrialOf) -> Trial:
    handler = of.settings.build(of.label, of.folder)
    began, seconds = time.monotonic(), of.settings.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds) as limit:
            answer = await _answer_of(handler, of.event)
    except BaseException as error:  # the handler is somebody else's code: whatever it raises is a failed delivery
        late = TimeoutError(f"not done within {seconds:g} s")
        return _failed(of, time.monotonic() - began, late if limit.expired() else error)
    finally:
        await handler.close()
    return _trial(of, time.monotonic() - began, answer, None)


async def _answer_of(handler: Handler, event: Event) -> Answer | None:
    if isinstance(handler, Answering):
        return await handler.answer([event])
    await handler.deliver([event])
    return None


def _failed(of: TrialOf, seconds: float, error: BaseException) -> Trial:
    failure = failure_of(error)
    answer = None if failure.status is None else Answer(failure.status, failure.answer)
    return _trial(of, seconds, answer, failure)


def _trial(of: TrialOf, seconds: float, answer: Answer | None, failure: DeliveryFailed | None) -> Trial:
    return Trial(
        handler=of.label,
        id=str(of.event.id),
        delivered=failure is None,
        seconds=round(seconds, 3),
        status=None if answer is None else answer.status,
        answer=None if answer is None else answer.text,
        cause=None if failure is None else failure.cause.value,
        error=None if failure is None else text_of(failure),
    )


def _end_of(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
