"""Answers of a model stub, whole and in the parts of a stream: OpenAI's responses and chat, Anthropic, Gemini."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

Tools = list[tuple[str, Any]]


def response(number: int, model: str, text: str, tools: Tools, call: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAI response."""
    items: list[dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{number}_{i}", "call_id": f"call_{number}_{i}", "status": "completed",
         "name": name, "arguments": json.dumps(arguments)}
        for i, (name, arguments) in enumerate(tools)
    ]  # fmt: skip
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    said = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": f"resp_{number:08x}", "object": "response", "created_at": 1790000000 + number, "status": "completed",
        "model": model, "output": items or [said], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1, "top_p": 1,
        "usage": {
            "input_tokens": call["input_total"], "input_tokens_details": {"cached_tokens": call["cached_read"]},
            "output_tokens": call["output"], "output_tokens_details": {"reasoning_tokens": call.get("reasoning", 0)},
            "total_tokens": call["input_total"] + call["output"],
        },
    }  # fmt: skip


def response_events(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of an OpenAI response that is streamed."""
    open_form = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": open_form},
        {"type": "response.in_progress", "response": open_form},
    ]
    for place, item in enumerate(whole["output"]):
        at = {"output_index": place, "item_id": item["id"]}
        if item["type"] == "function_call":
            events.append({"type": "response.output_item.added", **at, "item": {**item, "arguments": ""}})
            events.append({"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]})
            events.append({"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"]})
        else:
            (part,) = item["content"]
            at = {**at, "content_index": 0}
            events.append({"type": "response.output_item.added", **at, "item": {**item, "content": []}})
            events.append({"type": "response.content_part.added", **at, "part": {**part, "text": ""}})
            events.append({"type": "response.output_text.delta", **at, "delta": part["text"], "logprobs": []})
            events.append({"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []})
            events.append({"type": "response.content_part.done", **at, "part": part})
        events.append({"type": "response.output_item.done", "output_index": place, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": i} for i, event in enumerate(events)]


def message(number: int, model: str, text: str, tools: Tools, call: dict[str, Any]) -> dict[str, Any]:
    """Return an Anthropic message."""
    content: list[dict[str, Any]] = [
        {"type": "tool_use", "id": f"toolu_{number}_{i}", "name": name, "input": arguments}
        for i, (name, arguments) in enumerate(tools)
    ]
    return {
        "id": f"msg_{number:08x}", "type": "message", "role": "assistant", "model": model,
        "content": content or [{"type": "text", "text": text}],
        "stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None,
        "usage": {
            "input_tokens": call["input_total"] - call["cached_read"], "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": call["cached_read"], "output_tokens": call["output"],
        },
    }  # fmt: skip


def message_events(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of an Anthropic message that is streamed."""
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for place, block in enumerate(whole["content"]):
        if block["type"] == "tool_use":
            empty: dict[str, Any] = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        else:
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        events.append({"type": "content_block_start", "index": place, "content_block": empty})
        events.append({"type": "content_block_delta", "index": place, "delta": delta})
        events.append({"type": "content_block_stop", "index": place})
    why = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": why, "usage": whole["usage"]}, {"type": "message_stop"}]


def completion(number: int, model: str, text: str, tools: Tools, call: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAI chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if tools:
        message["tool_calls"] = [
            {
                "id": f"call_{number}_{i}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for i, (name, arguments) in enumerate(tools)
        ]
    return {
        "id": f"chatcmpl-{os.getpid()}-{number}",
        "object": "chat.completion",
        "created": 1790000000 + number,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}],
        "usage": {
            "prompt_tokens": call["input_total"],
            "completion_tokens": call["output"],
            "total_tokens": call["input_total"] + call["output"],
            "prompt_tokens_details": {"cached_tokens": call["cached_read"]},
            "completion_tokens_details": {"reasoning_tokens": call.get("reasoning", 0)},
        },
    }


def completion_chunks(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a chat completion that is streamed."""
    base = {**{k: whole[k] for k in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    (choice,) = whole["choices"]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for i, tool in enumerate(message.get("tool_calls", ())):
        deltas.append({"tool_calls": [{"index": i, **tool}]})
    words = (message["content"] or "").split(" ")
    deltas += [{"content": f"{word} "} for word in words if word]
    chunks = [{**base, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    return [*chunks, {**base, "choices": [], "usage": whole["usage"]}]


def content(number: int, model: str, text: str, tools: Tools, call: dict[str, Any]) -> dict[str, Any]:
    """Return a Gemini response."""
    parts: list[dict[str, Any]] = [{"functionCall": {"name": n, "args": a}} for n, a in tools] or [{"text": text}]
    return {
        "responseId": f"resp-{os.getpid()}-{number}",
        "modelVersion": model,
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": call["input_total"],
            "candidatesTokenCount": call["output"] - call.get("reasoning", 0),
            "thoughtsTokenCount": call.get("reasoning", 0),
            "totalTokenCount": call["input_total"] + call["output"],
            "cachedContentTokenCount": call["cached_read"],
        },
    }


#: How each interface answers: whole, and in the parts of a stream.
FORMS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Any]], list[dict[str, Any]]]]] = {
    "chat": (completion, completion_chunks),
    "gemini": (content, lambda whole: [whole]),
    "responses": (response, response_events),
    "messages": (message, message_events),
}


def body(api: str, whole: dict[str, Any], *, is_stream: bool) -> tuple[str, bytes]:
    """Return the content type and the body of an answer."""
    if not is_stream:
        return "application/json", json.dumps(whole).encode()
    lines = []
    for part in FORMS[api][1](whole):
        named = f"event: {part['type']}\n" if "type" in part else ""
        lines.append(f"{named}data: {json.dumps(part)}\n\n")
    lines += ["data: [DONE]\n\n"] if api == "chat" else []
    return "text/event-stream", "".join(lines).encode()
