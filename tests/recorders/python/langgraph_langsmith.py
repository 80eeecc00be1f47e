"""Scenarios of LangGraph and LangChain with LangSmith's OpenTelemetry."""

# /// script
# dependencies = ["langgraph", "langchain", "langchain-openai", "langsmith[otel]"]
# same-as = "langgraph"
# ///

from __future__ import annotations

import os

os.environ |= {"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ONLY": "true", "LANGSMITH_OTEL_ENABLED": "true"}
os.environ |= {"LANGSMITH_API_KEY": "none"}

from langchain_core.tracers.langchain import wait_for_all_tracers

from tests.recorders.python import common, langgraph

common.main(langgraph.SCENARIOS, wait_for_all_tracers)
