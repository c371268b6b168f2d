"""A look at a subscription that takes no message: that would cost it a delivery attempt."""

from __future__ import annotations

from google.api_core.exceptions import DeadlineExceeded, MethodNotImplemented, PermissionDenied
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import Subscription

from ingest.sources.pubsub.errors import explain

PROBE_SECONDS = 10.0
_LOOK_SECONDS = 3.0  # a stop waits for it
_DELETED_TOPIC = "_deleted-topic_"  # google.pubsub.v1.Subscription.topic
_CONSUME = "pubsub.subscriptions.consume"


def probe(subscription: str, seconds: float = PROBE_SECONDS) -> str | None:
    """Return why a subscription cannot be pulled, or None. Blocks, for about `seconds` at the most.

    roles/pubsub.subscriber may consume what it may not look at (pubsub.subscriptions.get): with that role alone,
    whether a subscription pushes instead is not seen. Its permissions everybody may ask for
    (https://cloud.google.com/pubsub/docs/access-control); an emulator has none.
    """
    try:
        with SubscriberClient() as client:
            return _unfit(client, subscription, seconds / 2)
    except DeadlineExceeded:
        return f"no answer within {seconds / 2:g} s"
    except Exception as error:  # over a malformed key file google-auth stumbles in many ways
        return explain(error, connected=False).reason


def _unfit(client: SubscriberClient, subscription: str, seconds: float) -> str | None:
    denied = None
    try:
        found = client.get_subscription(subscription=subscription, retry=None, timeout=seconds)
    except PermissionDenied as error:
        denied = error
    else:
        if (elsewhere := _goes_elsewhere(found)) is not None:
            return elsewhere
    request = {"resource": subscription, "permissions": [_CONSUME]}
    try:
        granted = client.test_iam_permissions(request=request, retry=None, timeout=seconds).permissions
    except MethodNotImplemented:
        granted = [] if denied else [_CONSUME]
    if _CONSUME in granted:
        return None
    return explain(denied or PermissionDenied(f"{_CONSUME} is missing")).reason


def look(client: SubscriberClient, subscription: str, seconds: float = _LOOK_SECONDS) -> str | None:
    """Return why nothing new will come by a subscription, which Google does not say to who pulls; None where all is
    well.

    Blocks for `seconds` at the most. Raises Google's errors where it cannot be told, or we may not know.
    """
    return _goes_elsewhere(client.get_subscription(subscription=subscription, retry=None, timeout=seconds))


def _goes_elsewhere(subscription: Subscription) -> str | None:
    if subscription.topic == _DELETED_TOPIC:
        return "the subscription's topic was deleted, nothing new will come: make another one"
    if subscription.detached:
        return "the subscription is detached from its topic, nothing will come: make another one"
    if subscription.push_config.push_endpoint:
        return "the subscription pushes its messages to an endpoint: make one that is pulled"
    if subscription.bigquery_config.table or subscription.cloud_storage_config.bucket:
        return "the subscription writes its messages to a table or a bucket: make one that is pulled"
    return None
