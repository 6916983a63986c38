"""Orderlog's HTTP API, asked with the standard library only."""

from __future__ import annotations

import functools
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from orderlog_stack.report import Failure

ANSWER_WITHIN_S = 30
ANSWER_BYTES_MAX = 4 * 1024 * 1024
ATTEMPTS_MAX = 10
RETRY_AFTER_S_MAX = 5

@dataclass(frozen=True)
class Api:
    """Where an API is asked, and the log of the process that answers there."""

    url: str
    log: Path
    ca_file: str | None = None
    """The authorities (PEM) that its certificate must be signed by; needed for https."""

    @functools.cached_property
    def opener(self):
        """Past every proxy."""
        handlers = [urllib.request.ProxyHandler({})]
        if self.ca_file:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.ca_file)))
        return urllib.request.build_opener(*handlers)


class Answer:
    """Status, headers and the JSON body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def __getitem__(self, name):
        return self.body[name]


def call(screen, method, api, path, body=None, token=None, expect=(200,), shown=True, **headers):
    """Sends one request, shows it and its answer; another status than expected is a failure.

    Whoever answers 503 is asked again after `Retry-After`. Headers are given as keyword arguments, `If_Match="..."`.
    """
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if shown:
        screen.request(method, path, body, headers)
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    answer = _first_answer(method, api, path, body, {**headers, **authorization})
    if shown:
        screen.answer(answer.status, answer.body, answer.headers)
    if answer.status not in expect:
        raise Failure(f"{method} {path} answered {answer.status}, not {expect}: {json.dumps(answer.body)[:500]}", api.log)
    return answer


def _first_answer(method, api, path, body, headers):
    for attempt in range(1, ATTEMPTS_MAX + 1):
        answer = _send(method, api, path, body, headers)
        if answer.status != 503 or not _may_be_repeated(answer, headers):
            return answer
        if attempt < ATTEMPTS_MAX:
            time.sleep(min(float(answer.headers.get("Retry-After") or 1), RETRY_AFTER_S_MAX))
    return answer


def _may_be_repeated(answer, headers):
    """When it is not known whether it was done, a second request may do it twice, except under the same key."""
    kind = answer.body.get("type") if isinstance(answer.body, dict) else None
    return kind != "/problems/outcome-unknown" or "Idempotency-Key" in headers


def _send(method, api, path, body, headers):
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(api.url + path, data=data, method=method, headers=headers)
    try:
        with api.opener.open(request, timeout=ANSWER_WITHIN_S) as answer:
            return Answer(answer.status, answer.headers, _json(answer.read(ANSWER_BYTES_MAX)))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, _json(error.read(ANSWER_BYTES_MAX)))
    except OSError as error:
        raise Failure(f"{method} {api.url}{path}: {getattr(error, 'reason', error)}", api.log) from error


def _json(data):
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode("utf-8", "replace")


def eventually(what, ask, log, within_s=30.0, every_s=0.1):
    """Asks until the answer is neither None nor empty; fails after the given time with the log of who is late."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        time.sleep(every_s)
    raise Failure(f"{what} did not appear within {within_s:.0f} s", log)
