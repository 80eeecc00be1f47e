package spanpostexporter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The rules of the gateway, before the wire. The gateway records no content unless its settings ask for it, and
// never the attributes of spans that are not an agent's. The names of attributes stay, so its rows are the same.

func setOf(names ...string) map[string]struct{} {
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// mostNames is the bound of each cache of names, which senders choose freely.
const mostNames = 8192

// nameCache remembers what a rule says about names.
type nameCache struct {
	mu    sync.RWMutex
	known map[string]nameRule
}

// nameRule is what the rules say about the name of an attribute.
type nameRule struct {
	isContent, isSpared, isAgent bool
}

var names = &nameCache{known: map[string]nameRule{}}

func (c *nameCache) rule(name string) nameRule {
	c.mu.RLock()
	found, ok := c.known[name]
	c.mu.RUnlock()
	if ok {
		return found
	}
	found = ruleOf(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= mostNames {
		clear(c.known)
	}
	c.known[strings.Clone(name)] = found
	return found
}

func ruleOf(name string) nameRule {
	lowered := strings.ToLower(withoutHumps(name))
	spared := hasHead(lowered, contentOurs) || contentSpared.MatchString(lowered)
	return nameRule{
		isSpared:  spared,
		isContent: !spared && contentWords.MatchString(lowered),
		isAgent:   isAgentName(name, lowered),
	}
}

// isAgentName reports whether an attribute of this name makes its span an agent's. A name that is not ASCII does:
// the gateway decides.
func isAgentName(name, lowered string) bool {
	if _, ok := agentNames[name]; ok || strings.HasPrefix(name, "agent.") || !isASCII(name) {
		return true
	}
	if _, ok := weakNames[name]; ok || len(name) > longestName {
		return false
	}
	shape := strings.ReplaceAll(lowered, ":", ".")
	if agentKind.MatchString(shape) && !hasHead(shape, foreignHeads) {
		return true
	}
	for _, one := range agentShapes {
		if one.MatchString(shape) {
			return true
		}
	}
	return false
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func hasHead(text string, heads []string) bool {
	for _, head := range heads {
		if strings.HasPrefix(text, head) {
			return true
		}
	}
	return false
}

// withoutHumps separates the words of camel case by underscores.
func withoutHumps(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if i > 0 && name[i] >= 'A' && name[i] <= 'Z' {
			if before := name[i-1]; before >= 'a' && before <= 'z' || before >= '0' && before <= '9' {
				b.WriteByte('_')
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// stripper removes what the gateway does not record.
type stripper struct {
	dropsContent, dropsStrangers bool
}

func (s stripper) isNeeded() bool { return s.dropsContent || s.dropsStrangers }

func (s stripper) traces(td ptrace.Traces) {
	for _, resource := range td.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			isVendor := hasHead(scope.Scope().Name(), vendorScopes)
			for _, span := range scope.Spans().All() {
				if s.dropsStrangers && !isVendor && isStranger(span) {
					for _, value := range span.Attributes().All() {
						pcommon.NewValueEmpty().MoveTo(value)
					}
				} else {
					s.attributes(span.Attributes())
				}
				s.status(span.Status())
				for _, event := range span.Events().All() {
					s.attributes(event.Attributes())
				}
			}
		}
	}
}

// isStranger reports whether the names of a span's attributes show that it is not an agent's. One without ids is
// left alone: the gateway derives its ids from its content.
func isStranger(span ptrace.Span) bool {
	if span.TraceID().IsEmpty() || span.SpanID().IsEmpty() {
		return false
	}
	for name := range span.Attributes().All() {
		if names.rule(name).isAgent {
			return false
		}
	}
	return true
}

func (s stripper) logs(ld plog.Logs) {
	for _, resource := range ld.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				s.attributes(record.Attributes())
				s.body(record)
			}
		}
	}
}

// body removes the body of an event. The text of a plain record stays, and that of an agent's own event or of an
// error, which are written to be shown.
func (s stripper) body(record plog.LogRecord) {
	body := record.Body()
	if !s.dropsContent || body.Type() == pcommon.ValueTypeEmpty {
		return
	}
	name := record.EventName()
	for _, key := range []string{"event.name", "event_name"} {
		if said, ok := record.Attributes().Get(key); ok && name == "" && said.Type() == pcommon.ValueTypeStr {
			name = said.Str()
		}
	}
	if name == "" && body.Type() == pcommon.ValueTypeStr || strings.HasPrefix(name, "agent.") || name == "exception" {
		return
	}
	leaveOut(body)
}

// metrics removes content from the attributes of data points.
func (s stripper) metrics(md pmetric.Metrics) {
	for _, resource := range md.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, attributes := range pointsOf(metric) {
					s.attributes(attributes)
				}
			}
		}
	}
}

func pointsOf(metric pmetric.Metric) []pcommon.Map {
	var found []pcommon.Map
	switch metric.Type() {
	case pmetric.MetricTypeGauge:
		for _, point := range metric.Gauge().DataPoints().All() {
			found = append(found, point.Attributes())
		}
	case pmetric.MetricTypeSum:
		for _, point := range metric.Sum().DataPoints().All() {
			found = append(found, point.Attributes())
		}
	case pmetric.MetricTypeHistogram:
		for _, point := range metric.Histogram().DataPoints().All() {
			found = append(found, point.Attributes())
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, point := range metric.ExponentialHistogram().DataPoints().All() {
			found = append(found, point.Attributes())
		}
	case pmetric.MetricTypeSummary:
		for _, point := range metric.Summary().DataPoints().All() {
			found = append(found, point.Attributes())
		}
	}
	return found
}

func (s stripper) attributes(attributes pcommon.Map) {
	if !s.dropsContent {
		return
	}
	for name, value := range attributes.All() {
		rule := names.rule(name)
		if rule.isContent || !rule.isSpared && isDocument(value) {
			leaveOut(value)
		}
	}
	withoutPassedOn(attributes)
}

// withoutPassedOn removes the state that a handoff to another agent passes on as the message of an exception.
func withoutPassedOn(attributes pcommon.Map) {
	isHandoff := func(name string) bool {
		value, ok := attributes.Get(name)
		return ok && value.Type() == pcommon.ValueTypeStr && handoff.MatchString(value.Str())
	}
	isKind := isHandoff("exception.type")
	if !isKind && !isHandoff("exception.message") {
		return
	}
	message, hasMessage := attributes.Get("exception.message")
	if stack, ok := attributes.Get("exception.stacktrace"); ok {
		leaveOut(stack)
	}
	switch {
	case isKind && hasMessage:
		leaveOut(message)
	case hasMessage: // its name is all that says what it is
		message.SetStr(handoff.FindString(message.Str()))
	}
}

// status removes the same from the words of a span's status.
func (s stripper) status(status ptrace.Status) {
	if found := handoff.FindString(status.Message()); s.dropsContent && found != "" {
		status.SetMessage(found)
	}
}

// isDocument reports whether a value is a long JSON text, whose parts are unknown.
func isDocument(value pcommon.Value) bool {
	if value.Type() != pcommon.ValueTypeStr {
		return false
	}
	text := value.Str()
	return len(text) > longestDocument && (text[0] == '{' || text[0] == '[') && utf8.RuneCountInString(text) > longestDocument
}

var placeholder = regexp.MustCompile(`^\[content not kept: \d{1,19} characters\]$`)

// leaveOut replaces a value by its size, as the gateway does. Numbers and booleans stay.
func leaveOut(value pcommon.Value) {
	size := 0
	switch value.Type() {
	case pcommon.ValueTypeStr:
		text := value.Str()
		if placeholder.MatchString(text) {
			return
		}
		size = utf8.RuneCountInString(text)
	case pcommon.ValueTypeBytes:
		size = base64.StdEncoding.EncodedLen(value.Bytes().Len())
	case pcommon.ValueTypeMap, pcommon.ValueTypeSlice:
		size = sizeOfJSON(value.AsRaw())
	default:
		return
	}
	value.SetStr(fmt.Sprintf("[content not kept: %d characters]", size))
}

func sizeOfJSON(value any) int {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(value) != nil {
		return 0
	}
	return b.Len() - 1 // the encoder ends with a line feed
}
