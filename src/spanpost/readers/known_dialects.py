"""All dialects that spanpost reads, in order. A new one is named here."""

from __future__ import annotations

from spanpost.readers.ag2 import AG2
from spanpost.readers.agent import AGENT
from spanpost.readers.agent_framework import AGENT_FRAMEWORK
from spanpost.readers.agentscope import AGENTSCOPE
from spanpost.readers.claude_code import CLAUDE_CODE
from spanpost.readers.coding_clis import CODEX, COPILOT, GEMINI, OPENCODE, QWEN
from spanpost.readers.crewai import CREWAI
from spanpost.readers.dialect import Dialect
from spanpost.readers.genai import GENAI
from spanpost.readers.genkit import GENKIT
from spanpost.readers.google_adk import GOOGLE_ADK
from spanpost.readers.haystack import HAYSTACK
from spanpost.readers.langfuse import LANGFUSE
from spanpost.readers.langgraph import LANGGRAPH_TRACELOOP
from spanpost.readers.langsmith import LANGSMITH
from spanpost.readers.logfire import LOGFIRE
from spanpost.readers.mastra import MASTRA
from spanpost.readers.mcp import MCP
from spanpost.readers.mlflow import MLFLOW
from spanpost.readers.openai_agents import OPENAI_AGENTS
from spanpost.readers.openinference import OPENINFERENCE, OPENINFERENCE_LIVE
from spanpost.readers.pydantic_ai import PYDANTIC_AI
from spanpost.readers.smolagents import SMOLAGENTS
from spanpost.readers.spring_ai import SPRING_AI
from spanpost.readers.strands import STRANDS
from spanpost.readers.traceloop import TRACELOOP
from spanpost.readers.vercel_ai import VERCEL_AI

#: ``agent.*`` first; of dialects that apply to all scopes, the first in order wins.
DIALECTS: tuple[Dialect, ...] = (
    AGENT,
    CLAUDE_CODE,
    CODEX,
    COPILOT,
    GEMINI,
    QWEN,
    OPENCODE,
    PYDANTIC_AI,
    STRANDS,
    OPENAI_AGENTS,
    LANGGRAPH_TRACELOOP,
    AGENT_FRAMEWORK,
    CREWAI,
    GOOGLE_ADK,
    SMOLAGENTS,
    AG2,
    AGENTSCOPE,
    LOGFIRE,
    MASTRA,
    OPENINFERENCE_LIVE,
    MCP,
    TRACELOOP,
    LANGSMITH,
    LANGFUSE,
    MLFLOW,
    VERCEL_AI,
    GENKIT,
    SPRING_AI,
    GENAI,
    OPENINFERENCE,
    HAYSTACK,
)
