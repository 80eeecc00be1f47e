package spanpostexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// signal has what differs between traces, logs and metrics.
type signal[T any] struct {
	path     string
	dataType string
	count    func(T) int
	marshal  func(T) ([]byte, error)
	// response returns how many items a successful answer rejects, and its message.
	response func([]byte) (int64, string, error)
	strip    func(stripper, T)
	// resources calls f with each resource.
	resources func(data T, f func(pcommon.Resource))
	// items returns the trace and the size of each span, record or metric, in order.
	items func(T) []item
	// only returns a copy with the items whose resource and position are wanted.
	only func(data T, wants func(resource pcommon.Resource, position int) bool) T
	// merge moves the items of `from` behind those of `into`.
	merge func(from, into T)
	// failed returns the error after which `rest` alone is sent again.
	failed func(err error, rest T) error
	// build returns the helper's exporter.
	build func(context.Context, exporter.Settings, component.Config, func(context.Context, T) error, ...exporterhelper.Option) (built[T], error)
}

// built is an exporter of the helper.
type built[T any] struct {
	component.Component
	consume func(context.Context, T) error
}

// item is a span, a log record or a metric.
type item struct {
	trace pcommon.TraceID
	size  int
}

var traces = signal[ptrace.Traces]{
	path:     "/v1/traces",
	dataType: "traces",
	count:    ptrace.Traces.SpanCount,
	marshal: func(td ptrace.Traces) ([]byte, error) {
		return ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	},
	response: func(body []byte) (int64, string, error) {
		answer := ptraceotlp.NewExportResponse()
		err := answer.UnmarshalProto(body)
		return answer.PartialSuccess().RejectedSpans(), answer.PartialSuccess().ErrorMessage(), err
	},
	strip: stripper.traces,
	resources: func(td ptrace.Traces, f func(pcommon.Resource)) {
		for _, each := range td.ResourceSpans().All() {
			f(each.Resource())
		}
	},
	items: func(td ptrace.Traces) []item {
		found, sizer := make([]item, 0, td.SpanCount()), ptrace.ProtoMarshaler{}
		for _, resource := range td.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					found = append(found, item{span.TraceID(), sizer.SpanSize(span)})
				}
			}
		}
		return found
	},
	only: func(td ptrace.Traces, wants func(pcommon.Resource, int) bool) ptrace.Traces {
		part, at := ptrace.NewTraces(), -1
		td.CopyTo(part)
		part.ResourceSpans().RemoveIf(func(resource ptrace.ResourceSpans) bool {
			resource.ScopeSpans().RemoveIf(func(scope ptrace.ScopeSpans) bool {
				scope.Spans().RemoveIf(func(ptrace.Span) bool {
					at++
					return !wants(resource.Resource(), at)
				})
				return scope.Spans().Len() == 0
			})
			return resource.ScopeSpans().Len() == 0
		})
		return part
	},
	merge:  func(from, into ptrace.Traces) { from.ResourceSpans().MoveAndAppendTo(into.ResourceSpans()) },
	failed: consumererror.NewTraces,
	build: func(
		ctx context.Context, set exporter.Settings, cfg component.Config, push func(context.Context, ptrace.Traces) error,
		options ...exporterhelper.Option,
	) (built[ptrace.Traces], error) {
		inner, err := exporterhelper.NewTraces(ctx, set, cfg, push, options...)
		if err != nil {
			return built[ptrace.Traces]{}, err
		}
		return built[ptrace.Traces]{inner, inner.ConsumeTraces}, nil
	},
}

var logs = signal[plog.Logs]{
	path:     "/v1/logs",
	dataType: "logs",
	count:    plog.Logs.LogRecordCount,
	marshal: func(ld plog.Logs) ([]byte, error) {
		return plogotlp.NewExportRequestFromLogs(ld).MarshalProto()
	},
	response: func(body []byte) (int64, string, error) {
		answer := plogotlp.NewExportResponse()
		err := answer.UnmarshalProto(body)
		return answer.PartialSuccess().RejectedLogRecords(), answer.PartialSuccess().ErrorMessage(), err
	},
	strip: stripper.logs,
	resources: func(ld plog.Logs, f func(pcommon.Resource)) {
		for _, each := range ld.ResourceLogs().All() {
			f(each.Resource())
		}
	},
	items: func(ld plog.Logs) []item {
		found, sizer := make([]item, 0, ld.LogRecordCount()), plog.ProtoMarshaler{}
		for _, resource := range ld.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					found = append(found, item{record.TraceID(), sizer.LogRecordSize(record)})
				}
			}
		}
		return found
	},
	only: func(ld plog.Logs, wants func(pcommon.Resource, int) bool) plog.Logs {
		part, at := plog.NewLogs(), -1
		ld.CopyTo(part)
		part.ResourceLogs().RemoveIf(func(resource plog.ResourceLogs) bool {
			resource.ScopeLogs().RemoveIf(func(scope plog.ScopeLogs) bool {
				scope.LogRecords().RemoveIf(func(plog.LogRecord) bool {
					at++
					return !wants(resource.Resource(), at)
				})
				return scope.LogRecords().Len() == 0
			})
			return resource.ScopeLogs().Len() == 0
		})
		return part
	},
	merge:  func(from, into plog.Logs) { from.ResourceLogs().MoveAndAppendTo(into.ResourceLogs()) },
	failed: consumererror.NewLogs,
	build: func(
		ctx context.Context, set exporter.Settings, cfg component.Config, push func(context.Context, plog.Logs) error,
		options ...exporterhelper.Option,
	) (built[plog.Logs], error) {
		inner, err := exporterhelper.NewLogs(ctx, set, cfg, push, options...)
		if err != nil {
			return built[plog.Logs]{}, err
		}
		return built[plog.Logs]{inner, inner.ConsumeLogs}, nil
	},
}

var metrics = signal[pmetric.Metrics]{
	path:     "/v1/metrics",
	dataType: "metrics",
	count:    pmetric.Metrics.DataPointCount,
	marshal: func(md pmetric.Metrics) ([]byte, error) {
		return pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	},
	response: func(body []byte) (int64, string, error) {
		answer := pmetricotlp.NewExportResponse()
		err := answer.UnmarshalProto(body)
		return answer.PartialSuccess().RejectedDataPoints(), answer.PartialSuccess().ErrorMessage(), err
	},
	strip: stripper.metrics,
	resources: func(md pmetric.Metrics, f func(pcommon.Resource)) {
		for _, each := range md.ResourceMetrics().All() {
			f(each.Resource())
		}
	},
	items: func(md pmetric.Metrics) []item {
		found, sizer := make([]item, 0, md.MetricCount()), pmetric.ProtoMarshaler{}
		for _, resource := range md.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					found = append(found, item{size: sizer.MetricSize(metric)})
				}
			}
		}
		return found
	},
	only: func(md pmetric.Metrics, wants func(pcommon.Resource, int) bool) pmetric.Metrics {
		part, at := pmetric.NewMetrics(), -1
		md.CopyTo(part)
		part.ResourceMetrics().RemoveIf(func(resource pmetric.ResourceMetrics) bool {
			resource.ScopeMetrics().RemoveIf(func(scope pmetric.ScopeMetrics) bool {
				scope.Metrics().RemoveIf(func(pmetric.Metric) bool {
					at++
					return !wants(resource.Resource(), at)
				})
				return scope.Metrics().Len() == 0
			})
			return resource.ScopeMetrics().Len() == 0
		})
		return part
	},
	merge:  func(from, into pmetric.Metrics) { from.ResourceMetrics().MoveAndAppendTo(into.ResourceMetrics()) },
	failed: consumererror.NewMetrics,
	build: func(
		ctx context.Context, set exporter.Settings, cfg component.Config, push func(context.Context, pmetric.Metrics) error,
		options ...exporterhelper.Option,
	) (built[pmetric.Metrics], error) {
		inner, err := exporterhelper.NewMetrics(ctx, set, cfg, push, options...)
		if err != nil {
			return built[pmetric.Metrics]{}, err
		}
		return built[pmetric.Metrics]{inner, inner.ConsumeMetrics}, nil
	},
}
