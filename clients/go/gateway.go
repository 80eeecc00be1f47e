package spanpost

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

const (
	// longPoll is the longest wait of one request: shorter than the idle timeouts of proxies.
	longPoll = 25 * time.Second
	// margin is the time limit of connecting, and of an answer beyond the requested wait.
	margin    = 15 * time.Second
	mostBody  = 4 << 20
	whatToSet = "set SPANPOST_CONTROL__ENDPOINT to the HTTP address of a spanpost gateway (http://host:4318) and " +
		"SPANPOST_CONTROL__TOKEN to the tenant's token"
)

// ControlUnavailableError says that no person can be asked: no gateway is set, or it does not accept the agent.
type ControlUnavailableError struct{ why string }

func (e *ControlUnavailableError) Error() string { return "spanpost: " + e.why }

// unreachable: try again.
type unreachable struct{ why string }

func (e *unreachable) Error() string { return e.why }

// Client asks one gateway. Each request has a connection of its own.
type Client struct {
	endpoint string
	headers  map[string]string
	http     *http.Client
	// Resource is sent with questions: the attributes of your tracer provider's resource.
	Resource []attribute.KeyValue
}

// NewClient returns a client of a gateway. The token may be empty; it is in no error and no log.
func NewClient(endpoint, token string) (*Client, error) {
	headers := map[string]string{}
	if token != "" {
		headers["Authorization"] = "Bearer " + token
	}
	return newClient(endpoint, headers, "")
}

func newClient(endpoint string, headers map[string]string, certificate string) (*Client, error) {
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, &ControlUnavailableError{
			"answers come by HTTP, and the endpoint is no HTTP address: " + whatToSet}
	}
	for _, value := range headers {
		if strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return nil, &ControlUnavailableError{
				"a header for the gateway is not plain ASCII on one line: look at the token"}
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if certificate != "" {
		pem, err := os.ReadFile(certificate)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return nil, &ControlUnavailableError{
				"SPANPOST_CONTROL__CERTIFICATE: " + certificate + " holds no certificate; name a PEM file"}
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	// A redirect is not followed: the token is for this address alone.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		endpoint: strings.TrimRight(endpoint, "/"),
		headers:  headers,
		http:     &http.Client{Transport: transport, CheckRedirect: stay},
	}, nil
}

// FromEnvironment returns a client of the environment's gateway: SPANPOST_CONTROL__ENDPOINT with
// SPANPOST_CONTROL__TOKEN, else SPANPOST_FORWARD__…, else OpenTelemetry's own OTEL_EXPORTER_OTLP_….
func FromEnvironment() (*Client, error) {
	headers := map[string]string{}
	endpoint := firstSet("SPANPOST_CONTROL__ENDPOINT", "SPANPOST_FORWARD__ENDPOINT")
	if endpoint == "" {
		endpoint = firstSet("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
		if endpoint == "" {
			return nil, &ControlUnavailableError{"no person can be asked from here: " + whatToSet}
		}
		protocol := firstSet("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
		if protocol == "grpc" || (protocol == "" && strings.HasSuffix(strings.TrimRight(endpoint, "/"), ":4317")) {
			return nil, &ControlUnavailableError{"telemetry goes by gRPC, and answers come by HTTP: " + whatToSet}
		}
		for pair := range strings.SplitSeq(firstSet("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"), ",") {
			name, value, _ := strings.Cut(pair, "=")
			if strings.EqualFold(strings.TrimSpace(name), "authorization") {
				value = strings.TrimSpace(value)
				if plain, err := url.PathUnescape(value); err == nil {
					value = plain
				}
				headers["Authorization"] = value
			}
		}
		endpoint = strings.TrimSuffix(endpoint, "/v1/logs")
	}
	if token := firstSet("SPANPOST_CONTROL__TOKEN", "SPANPOST_FORWARD__TOKEN"); token != "" {
		headers["Authorization"] = "Bearer " + token
	}
	certificate := firstSet(
		"SPANPOST_CONTROL__CERTIFICATE", "SPANPOST_FORWARD__CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
	return newClient(endpoint, headers, certificate)
}

func firstSet(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// approvalAnswer is the state of a question.
type approvalAnswer struct {
	State     string `json:"state"`
	Decision  string `json:"decision"`
	By        string `json:"by"`
	Comment   string `json:"comment"`
	Source    string `json:"source"`
	IsExpired bool   `json:"is_expired"`
	Reason    string `json:"reason"`
}

// taskAnswer has the requests of people to a task.
type taskAnswer struct {
	Status string `json:"status"`
	After  int64  `json:"after"`
	Acts   []struct {
		Verb string    `json:"verb"`
		By   string    `json:"by"`
		Text string    `json:"text"`
		At   time.Time `json:"at"`
	} `json:"acts"`
}

// ask records a question, as the log record of its event. It is stored when this returns nil.
func (c *Client) ask(ctx context.Context, q *asked, traceID, spanID string) error {
	record := map[string]any{
		"timeUnixNano":   strconv.FormatInt(q.at.UnixNano(), 10),
		"severityNumber": 9,
		"eventName":      eventRequested,
		"attributes":     keyValues(q.attributes),
		"traceId":        traceID,
		"spanId":         spanID,
	}
	scope := map[string]any{"scope": map[string]any{"name": "spanpost.agent"}, "logRecords": []any{record}}
	resource := map[string]any{"attributes": keyValues(c.Resource)}
	body := map[string]any{"resourceLogs": []any{map[string]any{"resource": resource, "scopeLogs": []any{scope}}}}
	var answer struct {
		PartialSuccess struct {
			RejectedLogRecords any    `json:"rejectedLogRecords"`
			ErrorMessage       string `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if _, err := c.request(ctx, http.MethodPost, "/v1/logs", 0, body, &answer); err != nil {
		return err
	}
	switch fmt.Sprint(answer.PartialSuccess.RejectedLogRecords) {
	case "<nil>", "0", "":
		return nil
	}
	return &ControlUnavailableError{"the gateway did not take the question: " + cut(answer.PartialSuccess.ErrorMessage)}
}

// approval returns the state of a question of a trace, as soon as it is decided; nil for an unknown one.
func (c *Client) approval(ctx context.Context, q *asked, traceID string, wait time.Duration) (*approvalAnswer, error) {
	query := url.Values{"mark": {q.mark}, "trace": {traceID}, "wait": {seconds(wait)}}
	var answer approvalAnswer
	path := "/control/v1/approvals/" + url.PathEscape(q.id) + "?" + query.Encode()
	if isKnown, err := c.request(ctx, http.MethodGet, path, wait, nil, &answer); err != nil || !isKnown {
		return nil, err
	}
	return &answer, nil
}

// task returns people's requests to a task after a number; nil for an unknown task.
func (c *Client) task(ctx context.Context, ref string, after int64, wait time.Duration) (*taskAnswer, error) {
	query := url.Values{"after": {strconv.FormatInt(after, 10)}, "wait": {seconds(wait)}}
	var answer taskAnswer
	path := "/control/v1/tasks/" + url.PathEscape(ref) + "?" + query.Encode()
	if isKnown, err := c.request(ctx, http.MethodGet, path, wait, nil, &answer); err != nil || !isKnown {
		return nil, err
	}
	return &answer, nil
}

// request reads the answer into `into` and reports whether the gateway knows what was named.
func (c *Client) request(
	ctx context.Context, method, path string, wait time.Duration, body any, into any,
) (isKnown bool, err error) {
	limited, stop := context.WithTimeout(ctx, wait+margin)
	defer stop()
	status, said, err := c.exchange(limited, method, path, body)
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			return false, &ControlUnavailableError{
				"the gateway's certificate is not trusted: set SPANPOST_CONTROL__CERTIFICATE to its authority"}
		}
		return false, &unreachable{reason(err)}
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(said, into); err != nil && len(said) > 0 {
			return false, &unreachable{"the answer is malformed"}
		}
		return true, nil
	}
	var problem struct {
		Message string `json:"message"`
		Details []struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}
	_ = json.Unmarshal(said, &problem) // another body says nothing
	for _, detail := range problem.Details {
		if status == http.StatusNotFound && detail.Reason == "UNKNOWN" {
			return false, nil
		}
	}
	message := cut(problem.Message)
	if status == 408 || status == 425 || status == 429 || status >= 500 {
		return false, &unreachable{strings.TrimSpace(fmt.Sprintf("%d %s", status, message))}
	}
	why := map[int]string{
		401: "the gateway knows no such token",
		403: "the gateway does not allow this token",
		404: "what answers there is no spanpost gateway (a Collector, perhaps)",
	}[status]
	if why == "" {
		why = fmt.Sprintf("the gateway refuses (%d)", status)
	}
	if message != "" {
		why += ": " + message
	}
	return false, &ControlUnavailableError{why + "; " + whatToSet}
}

func (c *Client) exchange(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		sent = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, sent)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	for name, value := range c.headers {
		request.Header.Set(name, value)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(response.Body, mostBody+1))
	if err == nil && len(said) > mostBody {
		err = errors.New("the answer is too large")
	}
	return response.StatusCode, said, err
}

// reason returns an error of net/http without the address, whose query has the question's mark.
func reason(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return cut(err.Error())
}

func seconds(wait time.Duration) string { return strconv.FormatFloat(wait.Seconds(), 'f', 3, 64) }

func cut(text string) string {
	if runes := []rune(text); len(runes) > 300 {
		return string(runes[:300])
	}
	return text
}

func keyValues(said []attribute.KeyValue) []any {
	found := []any{}
	for _, one := range said {
		found = append(found, map[string]any{"key": string(one.Key), "value": anyValue(one.Value)})
	}
	return found
}

func anyValue(value attribute.Value) map[string]any {
	switch value.Type() {
	case attribute.BOOL:
		return map[string]any{"boolValue": value.AsBool()}
	case attribute.INT64:
		return map[string]any{"intValue": strconv.FormatInt(value.AsInt64(), 10)}
	case attribute.FLOAT64:
		return map[string]any{"doubleValue": value.AsFloat64()}
	case attribute.STRINGSLICE:
		values := []any{}
		for _, one := range value.AsStringSlice() {
			values = append(values, map[string]any{"stringValue": one})
		}
		return map[string]any{"arrayValue": map[string]any{"values": values}}
	}
	return map[string]any{"stringValue": value.Emit()}
}
