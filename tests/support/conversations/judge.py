"""Whether what came back, and what is stored, is what had to be.

Pure: everything here is a function of values, so that the judge itself can be shown to see each kind of wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.support.conversations.values import After, Answer, Conversation, End, Ended, Heard, Request, Way

_PROBLEM = "application/problem+json"
_SHOWN_BYTES = 3000


def faults(conversation: Conversation, heard: Heard, stored: Mapping[int, int], way: Way) -> list[str]:
    """Every rule that a conversation broke; empty is good.

    1. What comes back is HTTP/1.1, an answer for each request, in order; 100 Continue only before HTTP/1.1's.
    2. A request has one of the answers that it may have; an error of ours is a problem document.
    3. Every whole request is answered, unless an answer before it closes or the client hung up.
    4. An answer that says close ends the connection; after any other it takes and answers one more request (a proxy
       may close). A connection whose client sends no more ends.
    5. `close` is said where it was asked for, and not where nothing asks for it.
    6. Answered 204: its events are stored, once. Refused: they are not. Behind an answer that closes, or cut: neither.
       Without an answer: at most once. What a body only contains is never stored.
    """
    return [
        *_syntax(conversation, heard, way),
        *_statuses(conversation, heard, way),
        *_missing(conversation, heard, way),
        *_ending(conversation, heard, way),
        *_storing(conversation, heard, stored),
    ]


def shown(conversation: Conversation, heard: Heard, found: list[str], way: Way) -> str:
    """A report by which the conversation can be held again."""
    lines = [f"--- {way.name}, seed {conversation.seed}, conversation {conversation.index}"]
    lines += [f"  broken: {fault}" for fault in found]
    for number, request in enumerate(conversation.requests):
        lines.append(f"  request {number}: {', '.join(sorted(request.asked)) or 'plain'}")
        lines.append(f"    {request.raw[:_SHOWN_BYTES]!r}")
    lines.append(f"  sent in {len(conversation.steps)} steps, then {conversation.end.name}")
    lines += [f"  answer {number}: {answer}" for number, answer in enumerate(heard.answers)]
    lines.append(f"  ended: {heard.ended.name}, the probe's answer: {heard.probe}")
    return "\n".join(lines)


def _syntax(conversation: Conversation, heard: Heard, way: Way) -> Iterator[str]:
    page = not way.direct and _refused_last(heard) and conversation.requests[len(heard.answers) - 1].method == b"HEAD"
    if heard.fault is not None and not page:  # HAProxy sends its pages to HEAD, too
        yield f"1: {heard.fault}"
    if len(heard.answers) > len(conversation.requests):
        yield f"1: {len(heard.answers)} answers to {len(conversation.requests)} requests"
    for number in heard.continued:
        if number < len(conversation.requests) and not conversation.requests[number].takes_100:
            yield f"1: 100 Continue to the request {number}, of HTTP/1.0 (RFC 9110 §10.1.1)"


def _statuses(conversation: Conversation, heard: Heard, way: Way) -> Iterator[str]:
    for number, (request, answer) in enumerate(zip(conversation.requests, heard.answers, strict=False)):
        named = f"the request {number} ({', '.join(sorted(request.asked)) or 'plain'})"
        if not _allowed(request, answer, way):
            yield f"2: {answer.status} to {named}, allowed: {sorted(request.statuses)}"
        if way.direct and answer.status >= 400 and answer.all("content-type") != [_PROBLEM]:
            yield f"2: {answer.status} to {named} is no problem document: {answer.all('content-type')}"
        if request.cut or not way.direct:
            continue
        if answer.closes and request.after is After.STAYS:
            yield f"5: {answer.status} to {named} closes"
        if not answer.closes and request.after is After.CLOSES:
            yield f"5: {answer.status} to {named} does not close"


def _allowed(request: Request, answer: Answer, way: Way) -> bool:
    if request.cut:
        return answer.status >= 400
    refused = bool(request.asked & way.may_refuse) and (400 <= answer.status < 500 or answer.status in {501, 505})
    mended = bool(request.asked & way.may_mend) and answer.status < 500
    return answer.status in request.statuses or refused or mended


def _missing(conversation: Conversation, heard: Heard, way: Way) -> Iterator[str]:
    whole = sum(not request.cut for request in conversation.requests)
    if len(heard.answers) >= whole or _closes(heard) or heard.ended is Ended.LEFT:
        return
    if heard.ended is Ended.CLOSED and _proxy_left(conversation, heard, way):
        return
    asked = ", ".join(sorted(conversation.requests[len(heard.answers)].asked)) or "plain"
    yield f"3: no answer to the request {len(heard.answers)} ({asked}); {heard.ended.value}"


def _proxy_left(conversation: Conversation, heard: Heard, way: Way) -> bool:
    """Whether a proxy may have closed: on a client that half-closed, or whose last request was refused early.

    The refusal of a body that is too large comes while the proxy still sends it, and may be lost with the connection.
    """
    refused_early = _refused_last(heard) or "too large" in conversation.requests[len(heard.answers)].asked
    return not way.direct and (conversation.end is End.HALF_CLOSE or refused_early)


def _ending(conversation: Conversation, heard: Heard, way: Way) -> Iterator[str]:
    if heard.fault is not None:
        return
    if _closes(heard) and heard.ended is Ended.SILENT:
        yield "4: it said close, and left the connection open"
    elif conversation.end is End.HALF_CLOSE and heard.ended is Ended.SILENT:
        yield "4: the client sends no more, and the connection stays open"
    elif heard.probed and heard.ended is Ended.SILENT:
        yield "4: the connection is open and dead: the next request has no answer"
    elif heard.probe is not None and heard.probe.status != 204:
        yield f"4: the connection is spoiled: a good request is answered {heard.probe.status}"
    elif _closed_by_itself(conversation, heard) and way.direct:
        yield "4: closed without having said so"  # RFC 9112 §9.6, 9110 §10.1.1: behind a proxy others are on it


def _closed_by_itself(conversation: Conversation, heard: Heard) -> bool:
    """Whether the server closed behind an answer that did not say so."""
    is_closed = heard.ended is Ended.CLOSED and conversation.end is End.STAY
    return is_closed and bool(heard.answers) and not _closes(heard)


def _storing(conversation: Conversation, heard: Heard, stored: Mapping[int, int]) -> Iterator[str]:
    closed = False
    for number, request in enumerate([*conversation.requests, conversation.probe]):
        is_probe = number == len(conversation.requests)
        answer = heard.probe if is_probe else (heard.answers[number : number + 1] or (None,))[0]
        least, most = _times(answer, executed=not (closed or request.cut or (is_probe and not heard.probed)))
        for event in request.events:
            if not least <= stored.get(event, 0) <= most:
                said = "no answer" if answer is None else answer.status
                yield f"6: event {event} of the request {number} ({said}) is stored {stored.get(event, 0)} times"
        for event in request.never:
            if event in stored:
                yield f"6: event {event}, which the bytes of the request {number} only contain, is stored"
        closed = closed or (answer is not None and answer.closes)


def _times(answer: Answer | None, *, executed: bool) -> tuple[int, int]:
    if answer is None:
        return 0, int(executed)
    return (1, 1) if answer.status == 204 else (0, 0)


def _refused_last(heard: Heard) -> bool:
    return bool(heard.answers) and heard.answers[-1].status >= 400


def _closes(heard: Heard) -> bool:
    return bool(heard.answers) and heard.answers[-1].closes
