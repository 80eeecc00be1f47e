"""A model at any OpenAI-compatible endpoint: one call, one span, an answer in JSON."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

tracer = trace.get_tracer("auto_ops")


class ModelFailed(Exception):
    """The model cannot be reached, or its answer has the wrong form."""


class Model:
    """`endpoint` ends as OpenAI's does, in ``/v1``."""

    def __init__(self, endpoint: str, name: str, key: str = "", seconds: float = 120) -> None:
        self.endpoint, self.name = endpoint.rstrip("/"), name
        self._key, self._seconds = key, seconds

    @classmethod
    def of_environment(cls) -> Model:
        """Return the model that ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` and ``AUTO_OPS_MODEL`` name."""
        said = os.environ
        endpoint = said.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return cls(endpoint, said.get("AUTO_OPS_MODEL") or "gpt-4o-mini", said.get("OPENAI_API_KEY", ""))

    async def ask(self, role: str, facts: dict[str, Any], *wanted: str, maybe: str = "") -> dict[str, str]:
        """Return the wanted texts by name, and that of `maybe` if there is one. Raises `ModelFailed`."""
        names = ", ".join(wanted) + (f", and perhaps {maybe}" if maybe else "")
        messages = [
            {"role": "system", "content": f"{role}\nAnswer with one JSON object of texts: {names}."},
            {"role": "user", "content": json.dumps(facts)},
        ]
        asked = {"model": self.name, "messages": messages, "temperature": 0, "response_format": {"type": "json_object"}}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.name,
        }
        name = f"chat {self.name}"
        with tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
        ) as span:
            try:
                answer = await asyncio.to_thread(self._post, asked)
                text = answer["choices"][0]["message"]["content"]
                used = answer.get("usage") or {}
                said = {
                    "gen_ai.response.model": answer.get("model"),
                    "gen_ai.response.id": answer.get("id"),
                    "gen_ai.usage.input_tokens": used.get("prompt_tokens"),
                    "gen_ai.usage.output_tokens": used.get("completion_tokens"),
                }
                span.set_attributes({key: value for key, value in said.items() if value is not None})
                return _texts(json.loads(text), wanted, maybe)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise ModelFailed(f"{self.name} at {urlsplit(self.endpoint).hostname}: {_why(error)}") from None

    def _post(self, asked: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self.endpoint}/chat/completions", json.dumps(asked).encode(), headers)
        with urllib.request.urlopen(request, timeout=self._seconds) as answer:
            return dict(json.load(answer))


def _texts(answer: object, wanted: tuple[str, ...], maybe: str) -> dict[str, str]:
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    missing = [name for name in wanted if not isinstance(answer.get(name), str) or not answer[name].strip()]
    if missing:
        raise ValueError(f"no text under {', '.join(missing)}")
    if isinstance(answer.get(maybe), str) and answer[maybe].strip():
        wanted = (*wanted, maybe)
    return {name: answer[name].strip()[:2_000] for name in wanted}


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code}"  # its body may repeat what was sent
    if isinstance(error, OSError):
        return f"it cannot be reached ({error})"
    return f"its answer is not what was asked for ({error})"
