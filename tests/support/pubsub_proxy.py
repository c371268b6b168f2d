"""A gRPC proxy in front of the Pub/Sub emulator: it writes down what the client sends, and does what Google may do.

The emulator never fails, redelivers slowly and knows no exactly-once delivery; here a test says when a call ends, how
it is answered, and which acknowledgements are refused. Nor does the emulator notice that a client is gone: it goes on
dealing messages to its stream, each lost for a lease; here such a stream ends in good order, which it understands.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.pubsub_v1.types import AcknowledgeRequest, ModifyAckDeadlineRequest, StreamingPullResponse
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status

_SUBSCRIBER = "/google.pubsub.v1.Subscriber/"
_CALLS_AT_ONCE = 64
_HELD_SECONDS = 30.0

Answer = tuple[StatusCode, str]
Refuse = Callable[[Sequence[str]], Mapping[str, str]]  # of acknowledgement ids, those that fail and how


class PubsubProxy:
    """What the client did, and what is to become of its calls. Read and set it from any thread."""

    def __init__(self, emulator: str) -> None:
        self.host = ""
        self.answers: dict[str, Answer] = {}  # to calls of these methods ("StreamingPull"), at once
        self.exactly_once = False
        self.refuse: Refuse = lambda ack_ids: {}
        self.refuse_lease: Refuse = lambda ack_ids: {}
        self.pulls = 0  # streams that were opened
        self.acknowledged: Counter[str] = Counter()  # message ids
        self.given_back: Counter[str] = Counter()  # message ids: deadline 0
        self.extended: Counter[str] = Counter()  # message ids: a later deadline
        self.delivered: Counter[str] = Counter()  # message ids
        self.data: dict[str, bytes] = {}  # by message id, of what was delivered
        self.deadlines: set[int] = set()  # seconds that were asked for
        self._messages: dict[str, str] = {}  # message ids by acknowledgement ids
        self._owed: dict[str, str] = {}  # the last acknowledgement id of each message, until it was sent back
        self._calls = 0
        self._emulator = grpc.insecure_channel(emulator, options=[("grpc.max_receive_message_length", -1)])
        self._streams: dict[Any, list[Answer]] = {}  # open calls to the emulator, and why they were cut
        self._ever: list[Any] = []  # nobody may drop a call: that would cancel it, which the emulator does not notice
        self._lock = threading.Lock()
        self._passing = threading.Event()  # acknowledgements go through
        self._passing.set()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """See grpc.GenericRpcHandler: every method, as bytes."""
        method = call.method.removeprefix(_SUBSCRIBER)
        if method == "StreamingPull":
            return grpc.stream_stream_rpc_method_handler(self._streaming_pull)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._unary(call.method, method, request, context)
        )

    def cut(self, code: StatusCode = StatusCode.UNAVAILABLE, details: str = "cut by the test") -> None:
        """End the streams that are open now, with this status; OK ends them in good order."""
        with self._lock:
            streams = list(self._streams.items())
        for stream, why in streams:
            why.append((code, details))
            stream.cancel()

    @property
    def open_streams(self) -> int:
        """How many streams there are now."""
        return len(self._streams)

    @property
    def quiet(self) -> bool:
        """Whether no call is under way: all that a client sent who is gone has been dealt with."""
        return self._calls == 0

    @property
    def owed(self) -> int:
        """How many messages will come again, for their last delivery was not acknowledged."""
        return len(self._owed)

    def hold_acknowledgements(self) -> None:
        """Let them wait from now on."""
        self._passing.clear()

    def release_acknowledgements(self) -> None:
        """Let them through."""
        self._passing.set()

    def give_back(self, ack_ids: Sequence[str]) -> None:
        """Nack messages behind the client's back: they come again at once, as otherwise when their leases are over."""
        for ack_id in ack_ids:
            request = ModifyAckDeadlineRequest(
                subscription=ack_id.rpartition(":")[0], ack_ids=[ack_id], ack_deadline_seconds=0
            )
            self._emulator.unary_unary(f"{_SUBSCRIBER}ModifyAckDeadline")(ModifyAckDeadlineRequest.serialize(request))

    def give_back_owed(self) -> None:
        """Nack all that was delivered and not acknowledged: what a client had that is gone."""
        with self._lock:
            owed = list(self._owed.values())
        self.give_back(owed)

    @contextmanager
    def as_emulator(self) -> Iterator[None]:
        """Google's clients that are made in this block, and in processes that it starts, call here."""
        before = os.environ.get("PUBSUB_EMULATOR_HOST")
        os.environ["PUBSUB_EMULATOR_HOST"] = self.host
        try:
            yield
        finally:
            del os.environ["PUBSUB_EMULATOR_HOST"]
            if before is not None:
                os.environ["PUBSUB_EMULATOR_HOST"] = before

    def close(self) -> None:
        """Let go of the emulator."""
        self.release_acknowledgements()
        self._emulator.close()

    def _streaming_pull(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._count(context)
        self._answer_at_once("StreamingPull", context)
        stream = self._emulator.stream_stream(f"{_SUBSCRIBER}StreamingPull")(_until_over(requests))
        why: list[Answer] = []
        with self._lock:
            self.pulls += 1
            self._streams[stream] = why
            self._ever.append(stream)
        if not context.add_callback(lambda: self._gone(stream)):
            self._gone(stream)
        try:
            for response in stream:
                yield self._noted(response)
        except grpc.RpcError as error:
            if why and why[0][0] is StatusCode.OK:
                return
            context.abort(*(why[0] if why else (error.code(), error.details())))
        finally:
            self._gone(stream)

    def _gone(self, stream: Any) -> None:
        with self._lock:
            self._streams.pop(stream, None)

    def _noted(self, response: bytes) -> bytes:
        message = StreamingPullResponse.pb().FromString(response)
        with self._lock:
            for received in message.received_messages:
                self._messages[received.ack_id] = received.message.message_id
                self._owed[received.message.message_id] = received.ack_id
                self.delivered[received.message.message_id] += 1
                self.data[received.message.message_id] = received.message.data
        if self.exactly_once:
            message.subscription_properties.exactly_once_delivery_enabled = True
        return bytes(message.SerializeToString())

    def _unary(self, path: str, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._count(context)
        self._answer_at_once(method, context)
        if method == "Acknowledge":
            self._passing.wait(_HELD_SECONDS)
            _refuse(self.refuse(list(AcknowledgeRequest.pb().FromString(request).ack_ids)), context)
        elif method == "ModifyAckDeadline":
            _refuse(self.refuse_lease(list(ModifyAckDeadlineRequest.pb().FromString(request).ack_ids)), context)
        try:
            answer = bytes(self._emulator.unary_unary(path)(request))
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        self._note_unary(method, request)
        return answer

    def _count(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._calls += 1
        if not context.add_callback(self._over):
            self._over()

    def _over(self) -> None:
        with self._lock:
            self._calls -= 1

    def _answer_at_once(self, method: str, context: grpc.ServicerContext) -> None:
        if method in self.answers:
            context.abort(*self.answers[method])

    def _note_unary(self, method: str, request: bytes) -> None:
        with self._lock:
            if method == "Acknowledge":
                for ack_id in AcknowledgeRequest.pb().FromString(request).ack_ids:
                    message = self._message_of(ack_id)
                    self.acknowledged[message] += 1
                    if self._owed.get(message) == ack_id:
                        del self._owed[message]
            elif method == "ModifyAckDeadline":
                asked = ModifyAckDeadlineRequest.pb().FromString(request)
                self.deadlines.add(asked.ack_deadline_seconds)
                noted = self.extended if asked.ack_deadline_seconds else self.given_back
                noted.update(map(self._message_of, asked.ack_ids))

    def _message_of(self, ack_id: str) -> str:
        return self._messages.get(ack_id, ack_id)


def _refuse(refused: Mapping[str, str], context: grpc.ServicerContext) -> None:
    """Say of some acknowledgement ids that they failed, as Google says it of exactly-once subscriptions."""
    if refused:
        info, packed = ErrorInfo(reason="PUBSUB", metadata=refused), Packed()
        packed.Pack(info)
        status = Status(code=StatusCode.INVALID_ARGUMENT.value[0], message="some failed", details=[packed])
        context.abort_with_status(rpc_status.to_status(status))


def _until_over(requests: Iterator[bytes]) -> Iterator[bytes]:
    """What the client says, until its call ends, however it does."""
    with suppress(grpc.RpcError):
        yield from requests


@contextmanager
def pubsub_proxy(emulator: str) -> Iterator[PubsubProxy]:
    """A proxy that runs on a port of its own."""
    proxy = PubsubProxy(emulator)
    with ThreadPoolExecutor(_CALLS_AT_ONCE, "pubsub-proxy") as threads:
        server = grpc.server(threads, handlers=(proxy,), options=[("grpc.max_receive_message_length", -1)])
        proxy.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield proxy
        finally:
            proxy.release_acknowledgements()
            server.stop(grace=None).wait()
            proxy.close()
