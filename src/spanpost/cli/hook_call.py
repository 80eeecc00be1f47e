"""`spanpost hook <agent>`: passes an event to the gateway and prints the program's answer. Standard library alone.

Rules. It runs for every prompt, so it imports little. Whatever goes wrong, it prints `{}` (no opinion) and
exits 0, and the program's own prompt stands. It never prints an answer that is not one of a gateway, and it
never takes longer than its wait.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from spanpost.control_protocol import HOOKS, ControlAddress, NoAddress, address_of

#: Seconds that an answer may take longer than its wait.
_MARGIN: Final = 5.0
_LONGEST: Final = 3600.0
_MOST_INPUT, _MOST_ANSWER = 1024 * 1024, 64 * 1024
NOTHING: Final = "{}"
_ending = threading.Lock()


def call(program: str, arguments: Sequence[str]) -> None:
    """Answer one event on standard input, and end the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # ends at once, without an answer
    try:
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        wait = min(float(options.pop("--wait", "55")), _LONGEST)
        url = options.pop("--url", "")
        if options or not wait >= 0:
            raise ValueError("there is --url and --wait")
        watch = threading.Timer(wait + _MARGIN, _end, (NOTHING, "the gateway took too long"))
        watch.daemon = True
        watch.start()
        answer = _answer(program, sys.stdin.buffer.read(_MOST_INPUT + 1), url, wait)
    except Exception as error:
        _end(NOTHING, f"{type(error).__name__}: {error}" if not isinstance(error, NoAddress) else str(error))
    _end(answer, "")


def _answer(program: str, event: bytes, url: str, wait: float) -> str:
    if len(event) > _MOST_INPUT:
        raise ValueError("the event is too long to be shown to people")
    address = address_of(os.environ)
    if url:
        address = ControlAddress(url, address.headers if address is not None else {}, None)
    if address is None:
        raise NoAddress("set SPANPOST_CONTROL__ENDPOINT to the address of a spanpost gateway")
    status, body = _post(address, f"{HOOKS}{program}?wait={wait:g}", event, wait + _MARGIN)
    answer = json.loads(body)
    if status != 200 or not isinstance(answer, dict):
        said = answer.get("message", "") if isinstance(answer, dict) else ""
        raise ValueError(f"the gateway answers {status} {str(said)[:200]}")
    return json.dumps(answer)


def _post(address: ControlAddress, target: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    from urllib.error import HTTPError
    from urllib.parse import urlsplit
    from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

    host = urlsplit(address.endpoint).hostname or ""
    handlers: list[Any] = []
    if host in ("localhost", "127.0.0.1", "::1"):
        handlers.append(ProxyHandler({}))
    if address.certificate:
        import ssl

        handlers.append(HTTPSHandler(context=ssl.create_default_context(cafile=address.certificate)))
    headers: Mapping[str, str] = {**address.headers, "content-type": "application/json"}
    request = Request(address.endpoint.rstrip("/") + target, body, dict(headers), method="POST")
    if request.type not in ("http", "https"):
        raise ValueError("the gateway's address must begin with http:// or https://")
    try:
        with build_opener(*handlers).open(request, timeout=timeout) as answer:
            return answer.status, answer.read(_MOST_ANSWER)
    except HTTPError as error:
        return error.code, error.read(_MOST_ANSWER)


def _end(answer: str, reason: str) -> None:
    """Print the answer and end the process at once, whatever its threads do. The first call counts."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # the other thread ends the process
    if reason:
        sys.stderr.write(f"spanpost: no opinion: {reason}\n")
        sys.stderr.flush()
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()
    os._exit(0)
