package spanpostexporter

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

var both = stripper{dropsContent: true, dropsStrangers: true}

// The rules say of each name what the Python package says; a span that the gateway reads is never a stranger.
func TestTheRulesAreThoseOfPython(t *testing.T) {
	path := os.Getenv("SPANPOST_TEST_NAMES")
	if path == "" {
		t.Skip("tests/acceptance/test_collector_components.py writes the names")
	}
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var all [][]any
	require.NoError(t, json.Unmarshal(raw, &all))
	require.Greater(t, len(all), 1000)
	strangers := 0
	for _, one := range all {
		scope, name := one[0].(string), one[1].(string)
		rule := names.rule(name)
		require.Equal(t, one[2], rule.isContent, name)
		require.Equal(t, one[3], rule.isSpared, name)
		isRead := rule.isAgent || hasHead(scope, vendorScopes)
		if one[4].(bool) {
			require.True(t, isRead, "%s %s", scope, name)
		} else if !isRead {
			strangers++
		}
	}
	require.Greater(t, strangers, 100)
}

// The names of a stranger's attributes stay and the values go; an agent's stay, and so do those of a span without ids.
func TestStrangersLoseTheirValues(t *testing.T) {
	td := spansOf(1, 4)
	spans := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
	for at, name := range []string{"http.route", "gen_ai.request.model", "http.route", "acme.usage.input_tokens"} {
		spans.At(at).Attributes().PutStr(name, "value")
		spans.At(at).Events().AppendEmpty().Attributes().PutStr("why", "value")
	}
	spans.At(2).SetSpanID(pcommon.SpanID{})
	both.traces(td)
	for at, want := range []pcommon.ValueType{pcommon.ValueTypeEmpty, pcommon.ValueTypeStr, pcommon.ValueTypeStr, pcommon.ValueTypeStr} {
		require.Equal(t, 1, spans.At(at).Attributes().Len())
		for _, value := range spans.At(at).Attributes().All() {
			require.Equal(t, want, value.Type(), at)
		}
		why, _ := spans.At(at).Events().At(0).Attributes().Get("why")
		require.Equal(t, "value", why.Str())
	}
	vendor := ptrace.NewTraces()
	scope := vendor.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	scope.Scope().SetName("pydantic-ai")
	span := scope.Spans().AppendEmpty()
	span.SetTraceID(pcommon.TraceID{1})
	span.SetSpanID(pcommon.SpanID{1})
	span.Attributes().PutStr("plain", "value")
	both.traces(vendor)
	plain, _ := span.Attributes().Get("plain")
	require.Equal(t, "value", plain.Str())
}

// Content of every type becomes its size; figures, short documents and sizes that were written before stay.
func TestContentBecomesItsSize(t *testing.T) {
	attributes := pcommon.NewMap()
	attributes.PutStr("gen_ai.input.messages", "größe")
	attributes.PutEmptyBytes("input.value").FromRaw([]byte("1234"))
	attributes.PutEmptySlice("output.value").AppendEmpty().SetStr("a<b")
	attributes.PutEmptyMap("tool.parameters").PutInt("n", 1)
	attributes.PutInt("llm.prompts", 3)
	attributes.PutStr("gen_ai.prompt", "[content not kept: 5 characters]")
	attributes.PutStr("vendor.state", `{"said": "`+strings.Repeat("w", 200)+`"}`)
	attributes.PutStr("vendor.flags", `{"a": 1}`)
	attributes.PutStr("agent.task.name", "Deploy")
	attributes.PutStr("llm.token_details", "{"+strings.Repeat(" ", 300)+"}")
	both.attributes(attributes)
	want := map[string]any{
		"gen_ai.input.messages": "[content not kept: 5 characters]",
		"input.value":           "[content not kept: 8 characters]",
		"output.value":          "[content not kept: 7 characters]",
		"tool.parameters":       "[content not kept: 7 characters]",
		"llm.prompts":           int64(3),
		"gen_ai.prompt":         "[content not kept: 5 characters]",
		"vendor.state":          "[content not kept: 212 characters]",
		"vendor.flags":          `{"a": 1}`,
		"agent.task.name":       "Deploy",
		"llm.token_details":     "{" + strings.Repeat(" ", 300) + "}",
	}
	require.Equal(t, want, attributes.AsRaw())
	kept := pcommon.NewMap()
	kept.PutStr("input.value", "words")
	stripper{dropsStrangers: true}.attributes(kept)
	require.Equal(t, map[string]any{"input.value": "words"}, kept.AsRaw())
}

// The state that a handoff to another agent passes on as an exception's message goes, also from the span's status.
func TestWhatAHandoffPassesOnIsLeftOut(t *testing.T) {
	passed := "Command(graph='desk', update={'messages': ['my card is 4111']})"
	for kind, message := range map[string]string{
		"langgraph.errors.ParentCommand": passed, "": "ParentCommand(" + passed + ")", "ParentCommand": passed,
	} {
		td := ptrace.NewTraces()
		span := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.Attributes().PutStr("gen_ai.operation.name", "chat")
		span.Status().SetMessage("langgraph.errors.ParentCommand: " + passed)
		thrown := span.Events().AppendEmpty()
		thrown.SetName("exception")
		if kind != "" {
			thrown.Attributes().PutStr("exception.type", kind)
		}
		thrown.Attributes().PutStr("exception.message", message)
		thrown.Attributes().PutStr("exception.stacktrace", "raise "+passed)
		stripper{dropsStrangers: true}.traces(td)
		require.Contains(t, span.Status().Message(), "4111")
		both.traces(td)
		sent, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
		require.NoError(t, err)
		require.NotContains(t, string(sent), "4111")
		require.Equal(t, "langgraph.errors.ParentCommand", span.Status().Message())
	}
	failed := pcommon.NewMap()
	failed.PutStr("exception.type", "ValueError")
	failed.PutStr("exception.message", "no ParentCommand")
	both.attributes(failed)
	message, _ := failed.Get("exception.message")
	require.Equal(t, "no ParentCommand", message.Str())
}

// The body of a framework's event goes; that of a plain line, of an agent's own event and of an error stays.
func TestBodies(t *testing.T) {
	for name, stays := range map[string]bool{
		"": true, "agent.checkpoint": true, "exception": true, "gen_ai.user.message": false, "attribute:gen_ai.choice": false,
	} {
		ld := plog.NewLogs()
		record := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		if said, ok := strings.CutPrefix(name, "attribute:"); ok {
			record.Attributes().PutStr("event.name", said)
		} else {
			record.SetEventName(name)
		}
		record.Body().SetStr("some words")
		both.logs(ld)
		require.Equal(t, stays, record.Body().Str() == "some words", name)
	}
	empty := plog.NewLogRecord()
	both.body(empty)
	require.Equal(t, pcommon.ValueTypeEmpty, empty.Body().Type())
}

// Data points of every kind of metric are cleaned.
func TestDataPoints(t *testing.T) {
	md := pmetric.NewMetrics()
	all := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	points := []pcommon.Map{
		all.AppendEmpty().SetEmptyGauge().DataPoints().AppendEmpty().Attributes(),
		all.AppendEmpty().SetEmptySum().DataPoints().AppendEmpty().Attributes(),
		all.AppendEmpty().SetEmptyHistogram().DataPoints().AppendEmpty().Attributes(),
		all.AppendEmpty().SetEmptyExponentialHistogram().DataPoints().AppendEmpty().Attributes(),
		all.AppendEmpty().SetEmptySummary().DataPoints().AppendEmpty().Attributes(),
	}
	for _, one := range points {
		one.PutStr("prompt", "words")
	}
	both.metrics(md)
	for _, one := range points {
		said, _ := one.Get("prompt")
		require.Equal(t, "[content not kept: 5 characters]", said.Str())
	}
}

// Senders choose names freely: what is remembered of them has a bound.
func TestTheMemoryOfNamesHasABound(t *testing.T) {
	cache := &nameCache{known: map[string]nameRule{}}
	for number := range 2 * mostNames {
		cache.rule("name." + strconv.Itoa(number))
	}
	require.LessOrEqual(t, len(cache.known), mostNames)
}
