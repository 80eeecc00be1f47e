"""Providers of the application or of libraries: spanpost joins all of them."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.processes.conftest import Run, needs_package

pytestmark = pytest.mark.slow


@pytest.mark.proves("left-alone")
def test_a_provider_that_the_application_made_before(run: Run, database: Database) -> None:
    """An existing provider of the application is joined, and its own exporter goes on."""
    code = """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        there = InMemorySpanExporter()
        mine = TracerProvider()
        mine.add_span_processor(SimpleSpanProcessor(there))
        trace.set_tracer_provider(mine)
        spanpost.attach()
        assert trace.get_tracer_provider() is mine
        agent("a").end()
        assert [s.name for s in there.get_finished_spans()] == ["invoke_agent a"]
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete")]


def test_a_provider_that_the_application_made_after(run: Run, database: Database) -> None:
    """A later provider is followed when it is passed; the global one stays as it was."""
    code = """
        from opentelemetry.sdk.trace import TracerProvider
        app = spanpost.attach()
        mine = TracerProvider()
        agent("unseen", mine).end()
        assert spanpost.attach(tracer_provider=mine) is app
        agent("mine", mine).end(); agent("global").end()
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("global", "complete"), ("mine", "complete")]


def test_logfire(run: Run, database: Database) -> None:
    """Logfire's provider, which wraps the SDK's, is joined once, and its spans are followed."""
    needs_package("logfire")
    code = """
        import logfire
        logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
        app = spanpost.attach()
        assert spanpost.attach() is app
        agent("a").end()
        with logfire.span("invoke_agent b", **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "b"}):
            pass
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete"), ("b", "complete")]


def test_logfire_configured_after(run: Run, database: Database) -> None:
    """Logfire that is configured later takes over its own spans; passed to attach, it is followed too."""
    needs_package("logfire")
    code = """
        import logfire
        app = spanpost.attach()
        instance = logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
        assert spanpost.attach(tracer_provider=instance.config.get_tracer_provider()) is app
        agent("a").end()
        with logfire.span("invoke_agent b", **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "b"}):
            pass
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete"), ("b", "complete")]


def test_an_init_that_reassigns_on_start(run: Run, database: Database) -> None:
    """Traceloop replaces a processor's `on_start`: spans are followed, with the attributes that it sets."""
    code = """
        from opentelemetry.sdk.trace import TracerProvider
        def init(processor):  # as traceloop-sdk 0.62 does with the processor that it is given
            original = processor.on_start
            def on_start(span, parent_context=None):
                span.set_attribute("traceloop.association.properties.user", "u1")
                original(span, parent_context)
            processor.on_start = on_start
            provider = TracerProvider()
            provider.add_span_processor(processor)
            trace.set_tracer_provider(provider)
        init(spanpost.AgentSpanProcessor())
        spanpost.attach()
        agent("a").end()
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete")]


@pytest.mark.proves("left-alone", "loops-of-ours")
def test_our_own_work_is_never_traced(run: Run, database: Database) -> None:
    """With asyncpg instrumented, the store's own queries make no span, for spanpost or for any other
    exporter.
    """
    needs_package("opentelemetry.instrumentation.asyncpg")
    code = """
        import asyncio, asyncpg
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        there = InMemorySpanExporter()
        mine = TracerProvider()
        mine.add_span_processor(SimpleSpanProcessor(there))
        trace.set_tracer_provider(mine)
        AsyncPGInstrumentor().instrument()
        async def query():
            connection = await asyncpg.connect(os.environ["DATABASE_URL"])
            await connection.fetch("SELECT 1")
            await connection.close()
        with trace.use_span(agent("a"), end_on_exit=True):
            app = spanpost.attach()
        with trace.use_span(agent("b"), end_on_exit=True):
            assert spanpost.flush(20)
            asyncio.run(query())
        assert app.shutdown()
        assert sorted(s.name for s in there.get_finished_spans()) == ["SELECT", "invoke_agent a", "invoke_agent b"]
    """
    run(code, DATABASE_URL=database.dsn)
    assert database.tasks == [("a", "complete"), ("b", "complete")]
