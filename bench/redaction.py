"""Cost of redaction: per span in the pass before the fold, and per character of the worst texts.

    python bench/redaction.py

Microseconds of processor time, the best of several rounds. *Spans*: an ordinary span with 20 attributes, of
which ids and texts are new in each span, and the recorded runs of `tests/captures`; with and without.
*Texts*: of 64 KiB each, which is the longest value that is kept; hostile ones begin a secret again and
again. The last column is the cost of 64 KiB over that of 16 KiB: 4 is linear.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from time import process_time
from uuid import UUID

from options import parse
from yardstick import yard

from spanpost.model.observations import Observation, Origin, Part
from spanpost.readers.redaction import Redaction, RedactionRules
from spanpost.receivers.recordings import read_recording
from spanpost.tasks import batches
from spanpost.text.rules import RedactionAction, RedactionRule, RuleSet, TelemetryPart, TextRules
from spanpost.text.secrets import Scanner

CAPTURES = Path(__file__).parent.parent / "tests" / "captures"
PROSE = "The agent plans its next step, writes it down, and asks a person where it is not sure whether it may go on. "
TEXTS = {
    "prose": PROSE,
    "messages": json.dumps({"role": "user", "content": PROSE, "id": "call_abc123def456ghi7", "name": "get_weather"})
    + ", ",
    "a log": "2026-11-22 10:00:01,123 INFO [app.worker:42] step 3 of 7 took 1.532 s, tokens in=812 out=120\n",
    "key=": "key=",
    "password=": "password=",
    "token ": "token ",
    "a private key": "-----BEGIN PRIVATE KEY-----",
    "sk-": "sk-",
    "lines": "AAAAAAAA\n",
    "zero width": "a\u200b",
    "addresses": "https://a:b/",
    "curl -u": "curl -u ",
}
#: Twenty rules, as a company may have them: five for names, three for parts, twelve patterns.
RULES = (
    *(("hash", name, "", "") for name in ("user.id", "customer.*", "*.email")),
    *(("drop", name, "", "") for name in ("http.request.header.*", "db.query.parameter.*")),
    ("keep", "", "", "PROJ-[0-9]{1,6}"),
    ("redact", "", "resource", "corp\\.example"),
    ("redact", "", "error", "at 0x[0-9a-f]{8,16}"),
    *(("redact", "", "", f"{word}_[A-Za-z0-9]{{16,40}}") for word in ("acme", "shop", "pay", "crm")),
    *(("hash", "", "", f"[A-Za-z0-9._-]{{1,40}}@{word}\\.example") for word in ("mail", "corp", "test", "dev")),
    *(("redact", "", "", f"(?i)project {word}[a-z]{{0,9}}") for word in ("apollo", "gemini", "vega", "orion")),
)
ORIGIN = Origin(resource={"service.name": "bench", "telemetry.sdk.language": "python"}, scope="bench")


def ordinary(number: int) -> Observation:
    """Return a model call's span with 20 attributes; ids, texts and counts differ from span to span."""
    rng = random.Random(number)
    return Observation(
        part=Part.ENDED,
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        name="chat gpt-4o-mini",
        start_ns=10**18,
        end_ns=10**18 + 10**9,
        at_ns=10**18 + 10**9,
        origin=ORIGIN,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.id": f"chatcmpl-{rng.randbytes(14).hex()}",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": rng.randrange(9999),
            "gen_ai.usage.output_tokens": 120,
            "gen_ai.request.max_tokens": 1024,
            "gen_ai.request.temperature": 0.2,
            "gen_ai.conversation.id": str(UUID(bytes=rng.randbytes(16))),
            "gen_ai.agent.name": "planner",
            "server.address": "api.openai.com",
            "server.port": 443,
            "request.id": str(UUID(bytes=rng.randbytes(16))),
            "user.id": f"user-{rng.randrange(10**6)}",
            "url.full": f"https://api.openai.com/v1/chat/completions?n={rng.randrange(10**6)}",
            "thread.name": "MainThread",
            "code.function": "plan",
            "deployment.region": "eu-west-1",
        },
    )


def twenty() -> RedactionRules:
    """Return `RULES`."""
    assert len(RULES) == 20
    return RedactionRules(
        rules=tuple(
            RedactionRule(
                action=RedactionAction(action),
                attributes=(name,) if name else (),
                parts=(TelemetryPart(part),) if part else (),
                pattern=pattern,
            )
            for action, name, part, pattern in RULES
        )
    )


def best(work: Callable[[], object], count: int, rounds: int = 7) -> float:
    found = float("inf")
    for _ in range(rounds):
        begin = process_time()
        work()
        found = min(found, process_time() - begin)
    return found / count * 1e6


def text_rules(rules: RedactionRules) -> TextRules:
    """Return the rules that apply to an attribute of no special name."""
    compiled = RuleSet(rules.rules)
    return compiled.texts(compiled.treatment(TelemetryPart.SPAN, "note").texts)


def hostile() -> RedactionRules:
    """Return as many rules as the settings accept, each as slow as they accept, for words of the texts."""
    parts = ("key=", "password=", "token ", "PRIVATE KEY", "AAAA", "https", "curl ", "INFO ", "plans ")
    patterns = [f"[A-Za-z =:]{{0,199}}{parts[n % len(parts)]}[\x22-{chr(35 + n % 9)}]" for n in range(200)]
    return RedactionRules(rules=tuple(RedactionRule(action=RedactionAction.REDACT, pattern=p) for p in patterns))


def spans(captures: str, count: int) -> None:
    print("| spans of | spans | without, µs | with, µs | more, µs | with 20 rules, µs | over without rules |")
    print("|---|---|---|---|---|---|---|")
    recorded = {
        "a recording, each": [
            o
            for path in sorted(CAPTURES.glob(f"{captures}/**/*.pb*"))
            for body in read_recording(path)
            for o in body.observations
        ]
    }
    for name, batch in {"20 attributes": [ordinary(n) for n in range(count)], **recorded}.items():
        redaction, ruled = Redaction(key=bytes(32)), Redaction(twenty(), key=bytes(32))
        for keeps in (False, True) if name != "20 attributes" else (False,):
            plain = best(lambda batch=batch, keeps=keeps: batches.prepare(batch, keeps_content=keeps), len(batch))
            scanned, by_rules = (
                best(
                    lambda batch=batch, keeps=keeps, r=r: batches.prepare(batch, keeps_content=keeps, redaction=r),
                    len(batch),
                )
                for r in (redaction, ruled)
            )
            print(
                f"| {name}{', content kept' if keeps else ''} | {len(batch)} | {plain:.1f} | {scanned:.1f} | "
                f"{scanned - plain:.1f} | {by_rules:.1f} | {by_rules / scanned:.2f} |"
            )


def fresh(rules: RedactionRules) -> float:
    """Return the cost of a span whose values were all new; its names were seen before."""
    redaction, number, found = Redaction(rules, key=bytes(32)), 0, float("inf")
    for _ in range(5):
        batch = [ordinary(number + n) for n in range(1_000)]
        number += 1_000
        begin = process_time()
        for o in batch:
            redaction.clean(o)
        found = min(found, process_time() - begin)
    return found / 1_000 * 1e6


def texts(rules: RedactionRules, title: str, which: str) -> None:
    scanner = Scanner(bytes(32), text_rules(rules))
    print(f"\n{title}")
    print("| text of | 64 KiB, ms | ns a character | over 16 KiB |")
    print("|---|---|---|---|")
    for name, seed in TEXTS.items():
        if which not in name:
            continue
        small, large = ((seed * (size // len(seed) + 1))[:size] for size in (16_384, 65_536))
        first, second = (best(lambda text=text: scanner.scan(text), 1, 3) for text in (small, large))
        print(f"| {name} | {second / 1000:.1f} | {second * 1000 / len(large):.0f} | {second / first:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", default="*", help="directories of tests/captures, as a pattern")
    parser.add_argument("--spans", type=int, default=2_000, help="spans with 20 attributes")
    parser.add_argument("--texts", default="", help="texts whose names hold this")
    asked = parse(parser, {"captures": "openai-v2", "spans": 200, "texts": "key"})
    print(f"one yard {yard():.1f} µs")
    spans(asked.captures, asked.spans)
    alone, ruled = fresh(RedactionRules()), fresh(twenty())
    print(
        f"\na span with 20 attributes, its ids, texts and address new each time: {alone:.1f} µs; "
        f"with 20 rules {ruled:.1f} µs, {ruled / alone:.2f} times as much"
    )
    texts(RedactionRules(), "Without rules", asked.texts)
    texts(twenty(), "With 20 rules", asked.texts)
    texts(hostile(), "With 200 rules, the slowest that are accepted", asked.texts)


if __name__ == "__main__":
    main()
