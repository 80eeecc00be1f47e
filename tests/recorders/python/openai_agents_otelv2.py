"""Scenarios of the OpenAI Agents SDK with OpenTelemetry's own instrumentation."""

# /// script
# dependencies = ["openai-agents", "opentelemetry-instrumentation-openai-agents-v2"]
# same-as = "openai_agents"
# ///

from __future__ import annotations

from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

from tests.recorders.python import common, openai_agents

OpenAIAgentsInstrumentor().instrument(tracer_provider=common.provider)
common.main(openai_agents.SCENARIOS)
