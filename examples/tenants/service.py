"""A service of two customers: each customer's tasks are sent with that customer's token, so that no row, message or
person of one sees the other's.
"""

from __future__ import annotations

import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def provider(token: str) -> TracerProvider:
    """Return a provider of one customer. The token proves the tenant; no attribute of a span does."""
    made = TracerProvider()
    exporter = OTLPSpanExporter(
        endpoint=f"{os.environ['SPANPOST_URL']}/v1/traces", headers={"authorization": f"Bearer {token}"}
    )
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


PROVIDERS = {customer: provider(os.environ[f"TOKEN_{customer.upper()}"]) for customer in ("acme", "globex")}


def answer(customer: str, question: str) -> None:
    """Work on one customer's question."""
    tracer = PROVIDERS[customer].get_tracer("support")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support", "agent.task.name": question}
    with tracer.start_as_current_span("invoke_agent support", attributes=attributes):
        print(f"{customer} asks: {question}")  # a real agent works here


if __name__ == "__main__":
    answer("acme", "Where is my parcel?")
    answer("globex", "Cancel my subscription")
    for one in PROVIDERS.values():
        one.shutdown()
