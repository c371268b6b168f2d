"""A Pub/Sub server with permissions, which the emulator has not: as much of it as whoever only looks may ask.

By https://cloud.google.com/pubsub/docs/access-control: GetSubscription needs pubsub.subscriptions.get,
TestIamPermissions needs nothing, and says nothing where there is no such subscription.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1.types import GetSubscriptionRequest, Subscription

SUBSCRIPTION = "projects/tests/subscriptions/guarded"
GET, CONSUME = "pubsub.subscriptions.get", "pubsub.subscriptions.consume"


@dataclass
class GuardedQueue:
    """A server with one subscription, as `subscription` describes it. `asked`: the methods that were called."""

    granted: frozenset[str]
    subscription: Subscription = field(default_factory=lambda: Subscription(name=SUBSCRIPTION))
    asked: list[str] = field(default_factory=list)
    host: str = ""

    def get(self, request: GetSubscriptionRequest, context: grpc.ServicerContext) -> Subscription:
        """GetSubscription."""
        self.asked.append("GetSubscription")
        if GET not in self.granted:
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        if request.subscription != SUBSCRIPTION:
            _refuse(context, grpc.StatusCode.NOT_FOUND, "Resource not found (resource=guarded).\nSee the log.")
        return self.subscription

    def test(
        self, request: iam_policy_pb2.TestIamPermissionsRequest, context: grpc.ServicerContext
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        """TestIamPermissions."""
        self.asked.append("TestIamPermissions")
        granted = self.granted.intersection(request.permissions) if request.resource == SUBSCRIPTION else ()
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=granted)


@contextmanager
def guarded_queue(*granted: str, subscription: Subscription | None = None) -> Iterator[GuardedQueue]:
    """A server whose caller has these permissions."""
    queue = GuardedQueue(frozenset(granted))
    if subscription is not None:
        queue.subscription = subscription
    get = grpc.unary_unary_rpc_method_handler(
        queue.get,
        request_deserializer=GetSubscriptionRequest.deserialize,
        response_serializer=Subscription.serialize,
    )
    test = grpc.unary_unary_rpc_method_handler(
        queue.test,
        request_deserializer=iam_policy_pb2.TestIamPermissionsRequest.FromString,
        response_serializer=iam_policy_pb2.TestIamPermissionsResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", {"GetSubscription": get}),
            grpc.method_handlers_generic_handler("google.iam.v1.IAMPolicy", {"TestIamPermissions": test}),
        )
    )
    queue.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield queue
    finally:
        server.stop(None).wait()


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError  # it has raised
