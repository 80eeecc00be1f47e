package spanpostexporter

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/spanpost/spanpost/collector/spanpostexporter/internal/metadata"
	"github.com/spanpost/spanpost/collector/spanpostexporter/internal/metadatatest"
)

// received is a request as the gateway got it.
type received struct {
	path, token string
	body        []byte
}

// gateway answers like spanpost: with `answers` in turn, then with 200.
type gateway struct {
	*httptest.Server
	mu       sync.Mutex
	got      []received
	answers  []func(w http.ResponseWriter)
	mostBody int
	version  http.HandlerFunc
}

func newGateway(t *testing.T, answers ...func(http.ResponseWriter)) *gateway {
	g := &gateway{answers: answers, version: func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"version": %q, "tenant": "default"}`, version)
	}}
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == versionPath {
		g.version(w, r)
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	whole, _ := io.ReadAll(body)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mostBody > 0 && len(whole) > g.mostBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	g.got = append(g.got, received{r.URL.Path, r.Header.Get("Authorization"), whole})
	if len(g.answers) > 0 {
		answer := g.answers[0]
		g.answers = g.answers[1:]
		answer(w)
		return
	}
	w.Header().Set("Content-Type", protobuf)
}

func (g *gateway) requests() []received {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]received(nil), g.got...)
}

func (g *gateway) traces(t *testing.T) []ptrace.Traces {
	var found []ptrace.Traces
	for _, each := range g.requests() {
		request := ptraceotlp.NewExportRequest()
		require.NoError(t, request.UnmarshalProto(each.body))
		found = append(found, request.Traces())
	}
	return found
}

func status(code int, headers ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for at := 0; at < len(headers); at += 2 {
			w.Header().Set(headers[at], headers[at+1])
		}
		w.WriteHeader(code)
	}
}

func answer(contentType string, body []byte) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header()["Content-Type"] = nil // none, unless one is given
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		_, _ = w.Write(body)
	}
}

func configFor(g *gateway, change ...func(*Config)) *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.ClientConfig.Endpoint = g.URL
	cfg.ClientConfig.DisableKeepAlives = true
	cfg.RetryConfig.InitialInterval = time.Millisecond
	cfg.RetryConfig.MaxInterval = time.Millisecond
	cfg.StartupCheck = checkOff
	for _, one := range change {
		one(cfg)
	}
	return cfg
}

type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

func settings() (exporter.Settings, *observer.ObservedLogs) {
	core, seen := observer.New(zapcore.InfoLevel)
	set := exportertest.NewNopSettings(metadata.Type)
	set.Logger = zap.New(core)
	return set, seen
}

func startTraces(t *testing.T, set exporter.Settings, cfg *Config, h component.Host) exporter.Traces {
	require.NoError(t, cfg.Validate())
	e, err := NewFactory().CreateTraces(context.Background(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(context.Background(), h))
	t.Cleanup(func() { require.NoError(t, e.Shutdown(context.Background())) })
	return e
}

// spansOf returns traces with so many spans each, whose names are `size` bytes long.
func spansOf(size int, counts ...int) ptrace.Traces {
	td := ptrace.NewTraces()
	spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for more := true; more; {
		more = false
		for trace := range counts {
			if counts[trace] > 0 {
				counts[trace]--
				more = true
				span := spans.AppendEmpty()
				span.SetTraceID(pcommon.TraceID{1, byte(trace)})
				span.SetSpanID(pcommon.SpanID{1, byte(counts[trace])})
				span.SetName(strings.Repeat("n", size))
			}
		}
	}
	return td
}

// A busy gateway, a wrong token, a wrong path and the answers of another program, an empty one too, are tried again;
// the data arrives when they are mended.
func TestWhatCanBeMendedIsTriedAgain(t *testing.T) {
	g := newGateway(t, status(503, "Retry-After", "0"), status(429), status(401), status(404), status(302, "Location", "/login"),
		answer("text/html", []byte("<h1>Log in</h1>")), answer("", nil), status(400), status(500, "Content-Type", "text/html"),
		answer(protobuf, []byte("no protobuf")))
	set, seen := settings()
	e := startTraces(t, set, configFor(g), componenttest.NewNopHost())
	require.NoError(t, e.ConsumeTraces(context.Background(), spansOf(1, 1)))
	require.Len(t, g.requests(), 11)
	require.Equal(t, 3, seen.FilterMessageSnippet("refuses this exporter").Len())
}

// Data that the gateway cannot read is dropped, counted and logged.
func TestWhatCannotBeReadIsDropped(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer func() { require.NoError(t, telemetry.Shutdown(context.Background())) }()
	g := newGateway(t, status(400, "Content-Type", protobuf))
	set, _ := settings()
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	e := startTraces(t, set, configFor(g), componenttest.NewNopHost())
	err := e.ConsumeTraces(context.Background(), spansOf(1, 2))
	require.True(t, consumererror.IsPermanent(err), err)
	require.Len(t, g.requests(), 1)
	counted, err := telemetry.GetMetric("otelcol_exporter_spanpost_dropped_items")
	require.NoError(t, err)
	require.NotEmpty(t, counted)
	_ = metadatatest.AssertEqualExporterSpanpostDroppedItems
}

// A partial success is no error: what was rejected is counted and logged with the message, and not sent again.
func TestPartialSuccessIsCountedAsDropped(t *testing.T) {
	said := ptraceotlp.NewExportResponse()
	said.PartialSuccess().SetRejectedSpans(2)
	said.PartialSuccess().SetErrorMessage("two are too large")
	body, err := said.MarshalProto()
	require.NoError(t, err)
	warning := ptraceotlp.NewExportResponse()
	warning.PartialSuccess().SetErrorMessage("old clock")
	second, err := warning.MarshalProto()
	require.NoError(t, err)
	g := newGateway(t, answer(protobuf, body), answer(protobuf, second))
	set, seen := settings()
	e := startTraces(t, set, configFor(g), componenttest.NewNopHost())
	require.NoError(t, e.ConsumeTraces(context.Background(), spansOf(1, 3)))
	require.NoError(t, e.ConsumeTraces(context.Background(), spansOf(1, 3)))
	require.Len(t, g.requests(), 2)
	dropped := seen.FilterMessage("The gateway dropped items").All()
	require.Len(t, dropped, 1)
	require.EqualValues(t, 2, dropped[0].ContextMap()["items"])
	require.Equal(t, "two are too large", dropped[0].ContextMap()["message"])
	require.Equal(t, 1, seen.FilterMessage("The gateway took all and says").Len())
}

// Logs and metrics report their partial success, too, and reach their own paths.
func TestLogsAndMetricsAreSent(t *testing.T) {
	logAnswer := plogotlp.NewExportResponse()
	logAnswer.PartialSuccess().SetRejectedLogRecords(1)
	logBody, err := logAnswer.MarshalProto()
	require.NoError(t, err)
	metricAnswer := pmetricotlp.NewExportResponse()
	metricAnswer.PartialSuccess().SetRejectedDataPoints(1)
	metricBody, err := metricAnswer.MarshalProto()
	require.NoError(t, err)
	g := newGateway(t, answer(protobuf, logBody), answer(protobuf, metricBody))
	set, seen := settings()
	cfg := configFor(g, func(c *Config) { c.Token = "tok" })
	ctx := context.Background()
	l, err := NewFactory().CreateLogs(ctx, set, cfg)
	require.NoError(t, err)
	m, err := NewFactory().CreateMetrics(ctx, set, cfg)
	require.NoError(t, err)
	require.NoError(t, l.Start(ctx, componenttest.NewNopHost()))
	require.NoError(t, m.Start(ctx, componenttest.NewNopHost()))
	ld, md := plog.NewLogs(), pmetric.NewMetrics()
	ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("hello")
	md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptySum().DataPoints().AppendEmpty().SetIntValue(1)
	require.NoError(t, l.ConsumeLogs(ctx, ld))
	require.NoError(t, m.ConsumeMetrics(ctx, md))
	require.NoError(t, l.Shutdown(ctx))
	require.NoError(t, m.Shutdown(ctx))
	got := g.requests()
	require.Equal(t, []string{"/v1/logs", "/v1/metrics"}, []string{got[0].path, got[1].path})
	require.Equal(t, "Bearer tok", got[0].token)
	require.Equal(t, 2, seen.FilterMessage("The gateway dropped items").Len())
}

// A request above the limit becomes several, and each trace is in one of them.
func TestLargeRequestsAreSplitBetweenTraces(t *testing.T) {
	g := newGateway(t)
	set, _ := settings()
	e := startTraces(t, set, configFor(g, func(c *Config) { c.MaxRequestBytes = 4096 }), componenttest.NewNopHost())
	require.NoError(t, e.ConsumeTraces(context.Background(), spansOf(100, 10, 10, 10, 10)))
	parts := g.traces(t)
	require.Greater(t, len(parts), 1)
	where, spans := map[pcommon.TraceID]int{}, 0
	for number, part := range parts {
		for _, span := range part.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
			spans++
			if before, ok := where[span.TraceID()]; ok {
				require.Equal(t, before, number, "a trace is torn")
			}
			where[span.TraceID()] = number
		}
		require.LessOrEqual(t, len(g.requests()[number].body), 4096)
	}
	require.Equal(t, 40, spans)
}

// A trace above the limit is torn, and a gateway with a lower limit is obeyed: nothing is dropped for its size but one span that is too large.
func TestSmallerGatewaysAreObeyed(t *testing.T) {
	g := newGateway(t)
	g.mostBody = 1500
	set, seen := settings()
	e := startTraces(t, set, configFor(g, func(c *Config) { c.MaxRequestBytes = 8192 }), componenttest.NewNopHost())
	td := spansOf(100, 30)
	huge := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().AppendEmpty()
	huge.SetTraceID(pcommon.TraceID{9})
	huge.SetName(strings.Repeat("h", 3000))
	require.NoError(t, e.ConsumeTraces(context.Background(), td))
	spans := 0
	for _, part := range g.traces(t) {
		spans += part.SpanCount()
	}
	require.Equal(t, 30, spans)
	require.EqualValues(t, 1, seen.FilterMessage("The gateway dropped items").All()[0].ContextMap()["items"])
}

// After a failure in the middle only the rest is sent again.
func TestOnlyTheRestIsSentAgain(t *testing.T) {
	g := newGateway(t, status(200, "Content-Type", protobuf), status(503))
	set, _ := settings()
	e := startTraces(t, set, configFor(g, func(c *Config) { c.MaxRequestBytes = 2048 }), componenttest.NewNopHost())
	require.NoError(t, e.ConsumeTraces(context.Background(), spansOf(100, 10, 10, 10)))
	seen := map[string]int{}
	for number, part := range g.traces(t) {
		for _, span := range part.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
			if number != 1 { // that one was refused
				seen[span.TraceID().String()+span.SpanID().String()]++
			}
		}
	}
	require.Len(t, seen, 30)
	for _, times := range seen {
		require.Equal(t, 1, times)
	}
}

// Each tenant's resources go with its token; an unknown tenant is refused before anything is acknowledged.
func TestTenantsHaveTheirTokens(t *testing.T) {
	g := newGateway(t)
	set, _ := settings()
	tenants := func(c *Config) {
		c.Tenant = TenantConfig{Attribute: "tenant", Tokens: map[string]configopaque.String{"a": "token-a", "b": "token-b"}}
	}
	e := startTraces(t, set, configFor(g, tenants), componenttest.NewNopHost())
	td := ptrace.NewTraces()
	for _, name := range []string{"a", "b", "a"} {
		resource := td.ResourceSpans().AppendEmpty()
		resource.Resource().Attributes().PutStr("tenant", name)
		resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName(name)
	}
	require.NoError(t, e.ConsumeTraces(context.Background(), td))
	got := map[string]int{}
	for number, each := range g.requests() {
		got[each.token] = g.traces(t)[number].SpanCount()
	}
	require.Equal(t, map[string]int{"Bearer token-a": 2, "Bearer token-b": 1}, got)
	unknown := spansOf(1, 1)
	unknown.ResourceSpans().At(0).Resource().Attributes().PutStr("tenant", "c")
	require.True(t, consumererror.IsPermanent(e.ConsumeTraces(context.Background(), unknown)))
	require.Error(t, e.ConsumeTraces(context.Background(), spansOf(1, 1)))
	require.Len(t, g.requests(), 2)
}

// The tenant of the request's header replaces the one that a sender writes into its resource.
func TestTheHeaderNamesTheTenant(t *testing.T) {
	g := newGateway(t)
	set, _ := settings()
	cfg := configFor(g, func(c *Config) {
		c.Token = "default-token"
		c.Tenant = TenantConfig{
			Attribute: "tenant", Metadata: "x-tenant",
			Tokens: map[string]configopaque.String{"a": "token-a", "b": "token-b"},
		}
	})
	e := startTraces(t, set, cfg, componenttest.NewNopHost())
	forged := func() ptrace.Traces {
		td := spansOf(1, 1)
		td.ResourceSpans().At(0).Resource().Attributes().PutStr("tenant", "b")
		return td
	}
	ctx := client.NewContext(context.Background(), client.Info{Metadata: client.NewMetadata(map[string][]string{"x-tenant": {"a"}})})
	require.NoError(t, e.ConsumeTraces(ctx, forged()))
	require.NoError(t, e.ConsumeTraces(context.Background(), forged()))
	require.Equal(t, "Bearer token-a", g.requests()[0].token)
	require.Equal(t, "Bearer default-token", g.requests()[1].token)
}

// What the rules drop is in no request.
func TestContentIsNotSent(t *testing.T) {
	g := newGateway(t)
	set, _ := settings()
	e := startTraces(t, set, configFor(g), componenttest.NewNopHost())
	td := spansOf(1, 1)
	span := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	span.Attributes().PutStr("gen_ai.operation.name", "chat")
	span.Attributes().PutStr("gen_ai.input.messages", "secret words")
	require.NoError(t, e.ConsumeTraces(context.Background(), td))
	body := string(g.requests()[0].body)
	require.NotContains(t, body, "secret words")
	require.Contains(t, body, "[content not kept: 12 characters]")
}

// fakeStorage is a storage extension in memory.
type fakeStorage struct {
	component.StartFunc
	component.ShutdownFunc
	mu   sync.Mutex
	kept map[string][]byte
}

func (s *fakeStorage) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return s, nil
}

func (s *fakeStorage) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[key], nil
}

func (s *fakeStorage) Set(ctx context.Context, key string, value []byte) error {
	return s.Batch(ctx, storage.SetOperation(key, value))
}

func (s *fakeStorage) Delete(ctx context.Context, key string) error {
	return s.Batch(ctx, storage.DeleteOperation(key))
}

func (s *fakeStorage) Close(context.Context) error { return nil }

func (s *fakeStorage) Batch(_ context.Context, operations ...*storage.Operation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, each := range operations {
		switch each.Type {
		case storage.Get:
			each.Value = s.kept[each.Key]
		case storage.Set:
			s.kept[each.Key] = each.Value
		case storage.Delete:
			delete(s.kept, each.Key)
		}
	}
	return nil
}

// With a storage extension the queue is on disk: data that was taken survives a Collector that ends while the gateway is down.
func TestTheQueueIsStored(t *testing.T) {
	g := newGateway(t)
	g.answers = make([]func(http.ResponseWriter), 0)
	for range 1000 {
		g.answers = append(g.answers, status(503))
	}
	disk := &fakeStorage{kept: map[string][]byte{}}
	h := host{component.MustNewID("file_storage"): disk}
	set, _ := settings()
	cfg := configFor(g, func(c *Config) {
		c.RetryConfig.InitialInterval, c.RetryConfig.MaxInterval = 50*time.Millisecond, 50*time.Millisecond
	})
	first, err := NewFactory().CreateTraces(context.Background(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, first.Start(context.Background(), h))
	require.NoError(t, first.ConsumeTraces(context.Background(), spansOf(1, 5)))
	require.Eventually(t, func() bool { return len(g.requests()) > 0 }, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, first.Shutdown(context.Background()))
	g.mu.Lock()
	g.answers, g.got = nil, nil
	g.mu.Unlock()
	startTraces(t, set, cfg, h)
	require.Eventually(t, func() bool { return len(g.requests()) == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 5, g.traces(t)[0].SpanCount())
}

// The queue's storage is found, asked for, or given up in favour of waiting senders, never a silent memory.
func TestTheQueueThatIsChosen(t *testing.T) {
	one := host{component.MustNewID("file_storage"): &fakeStorage{}}
	two := host{component.MustNewID("file_storage"): &fakeStorage{}, component.MustNewIDWithName("file_storage", "b"): &fakeStorage{}}
	base := createDefaultConfig().(*Config)
	queue := *base.QueueConfig.GetOrInsertDefault()
	given, disabled := createDefaultConfig().(*Config), createDefaultConfig().(*Config)
	given.QueueConfig = configoptional.Some(queue)
	disabled.QueueConfig = configoptional.None[exporterhelper.QueueBatchConfig]()
	memory := createDefaultConfig().(*Config)
	memory.QueueConfig, memory.waitIsSet = configoptional.Some(queue), true
	fresh := createDefaultConfig().(*Config)
	logger, seen := observer.New(zapcore.WarnLevel)

	found, err := fresh.queue(one, zap.NewNop())
	require.NoError(t, err)
	require.Equal(t, component.MustNewID("file_storage"), *found.Get().StorageID)
	found, err = fresh.queue(nil, zap.NewNop())
	require.NoError(t, err)
	require.False(t, found.HasValue())
	_, err = fresh.queue(two, zap.NewNop())
	require.ErrorContains(t, err, "name the one to use")
	found, err = given.queue(nil, zap.NewNop())
	require.NoError(t, err)
	require.True(t, found.Get().WaitForResult)
	found, err = disabled.queue(one, zap.NewNop())
	require.NoError(t, err)
	require.False(t, found.HasValue())
	found, err = memory.queue(one, zap.New(logger))
	require.NoError(t, err)
	require.Nil(t, found.Get().StorageID)
	require.Equal(t, 1, seen.Len())
}
