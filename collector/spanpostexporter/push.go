package spanpostexporter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/spanpost/spanpost/collector/spanpostexporter/internal/metadata"
)

const (
	protobuf = "application/x-protobuf"
	// mostAnswer is how much of an answer is read.
	mostAnswer = 64 * 1024
)

// Reasons of dropped items.
const (
	reasonPartialSuccess = "partial_success"
	reasonRefused        = "refused"
)

// pusher sends requests of one signal to the gateway.
type pusher[T any] struct {
	signal    signal[T]
	config    *Config
	client    *http.Client
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	userAgent string
	// status is the last status that was logged, so that a refused token is an error once.
	status atomic.Int64
}

// tooLarge asks for smaller requests.
var errTooLarge = errors.New("the gateway takes smaller requests only (gateway.max_body)")

// push sends data. An error that says so may be tried again with the data that it holds.
func (p *pusher[T]) push(ctx context.Context, data T) error {
	return p.pushAll(ctx, p.byToken(data))
}

// share is data that is sent with one token.
type share[T any] struct {
	token string
	data  T
}

// byToken divides data between the tokens of its tenants.
func (p *pusher[T]) byToken(data T) []share[T] {
	if p.config.Tenant.Attribute == "" {
		return []share[T]{{string(p.config.Token), data}}
	}
	var order []string
	seen := map[string]bool{}
	p.signal.resources(data, func(resource pcommon.Resource) {
		if name := p.config.tenantOf(resource); !seen[name] {
			seen[name] = true
			order = append(order, name)
		}
	})
	if len(order) == 1 {
		return []share[T]{{p.config.tokenOf(order[0]), data}}
	}
	shares := make([]share[T], 0, len(order))
	for _, name := range order {
		part := p.signal.only(data, func(resource pcommon.Resource, _ int) bool { return p.config.tenantOf(resource) == name })
		shares = append(shares, share[T]{p.config.tokenOf(name), part})
	}
	return shares
}

// pushAll sends all shares. Items that the gateway refuses for good do not hold the others.
func (p *pusher[T]) pushAll(ctx context.Context, shares []share[T]) error {
	for at := 0; at < len(shares); at++ {
		one := shares[at]
		body, err := p.signal.marshal(one.data)
		if err != nil {
			return consumererror.NewPermanent(err)
		}
		parts, limit := []T{one.data}, p.config.MaxRequestBytes
		if len(body) > limit {
			parts = split(p.signal, one.data, len(body), limit)
		}
		if len(parts) == 1 {
			if err = p.send(ctx, one.token, body, p.signal.count(one.data)); err == nil {
				continue
			}
			if errors.Is(err, errTooLarge) {
				parts = split(p.signal, one.data, len(body), len(body)/2)
			}
		}
		if len(parts) > 1 {
			smaller := make([]share[T], 0, len(shares)-at-1+len(parts))
			for _, part := range parts {
				smaller = append(smaller, share[T]{one.token, part})
			}
			shares, at = append(smaller, shares[at+1:]...), -1
			continue
		}
		if errors.Is(err, errTooLarge) || consumererror.IsPermanent(err) {
			p.dropped(ctx, reasonRefused, int64(p.signal.count(one.data)), err.Error())
			if len(shares) == 1 {
				return consumererror.NewPermanent(err)
			}
			continue
		}
		rest := shares[at].data
		if at == 0 && len(shares) == 1 {
			return err
		}
		for _, later := range shares[at+1:] {
			p.signal.merge(later.data, rest)
		}
		return p.signal.failed(err, rest)
	}
	return nil
}

// send posts one request.
func (p *pusher[T]) send(ctx context.Context, token string, body []byte, items int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.config.target(p.signal.path), bytes.NewReader(body))
	if err != nil {
		return consumererror.NewPermanent(err)
	}
	request.Header.Set("Content-Type", protobuf)
	request.Header.Set("User-Agent", p.userAgent)
	authorize(request, token)
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("the gateway cannot be reached: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return fmt.Errorf("the gateway's answer ended early: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return p.refused(response, answer)
	}
	p.status.Store(http.StatusOK)
	if !isOfGateway(response) {
		return fmt.Errorf("%s answered 200 with %q, which is no OTLP: is this a spanpost gateway?",
			p.config.target(p.signal.path), response.Header.Get("Content-Type"))
	}
	rejected, message, err := p.signal.response(answer)
	if err != nil {
		return fmt.Errorf("%s answered 200 with what is no OTLP: is this a spanpost gateway?", p.config.target(p.signal.path))
	}
	if rejected > 0 {
		p.dropped(ctx, reasonPartialSuccess, min(rejected, int64(items)), message)
	} else if message != "" {
		p.logger.Warn("The gateway took all and says", zap.String("message", message))
	}
	return nil
}

// isOfGateway reports whether a gateway answered, and no proxy or other program: it answers in the type of the request.
func isOfGateway(response *http.Response) bool {
	return response.Header.Get("Content-Type") == protobuf
}

// refused returns the error for a status. Only data that the gateway cannot take is given up, as OTLP says of 400
// and 500 (spanpost answers its own faults with 503). A wrong token, a wrong path, a full gateway or a proxy before it
// can be mended, and the data waits.
func (p *pusher[T]) refused(response *http.Response, answer []byte) error {
	said := spb.Status{}
	if proto.Unmarshal(answer, &said) != nil {
		said.Message = ""
	}
	code := response.StatusCode
	err := fmt.Errorf("the gateway answered %d: %s", code, said.GetMessage())
	switch code {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusInternalServerError:
		if isOfGateway(response) {
			return consumererror.NewPermanent(err)
		}
	case http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %s", errTooLarge, said.GetMessage())
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait, ok := retryAfter(response.Header.Get("Retry-After")); ok {
			return exporterhelper.NewThrottleRetry(err, wait)
		}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
	default:
		if p.status.Swap(int64(code)) != int64(code) {
			p.logger.Error("The gateway refuses this exporter; its data waits until that is mended", zap.Error(err))
		}
	}
	return err
}

func retryAfter(text string) (time.Duration, bool) {
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}

// dropped counts and logs items that nobody will send again.
func (p *pusher[T]) dropped(ctx context.Context, reason string, items int64, message string) {
	p.telemetry.ExporterSpanpostDroppedItems.Add(ctx, items, metric.WithAttributes(
		attribute.String("reason", reason), attribute.String("data_type", p.signal.dataType),
	))
	p.logger.Warn("The gateway dropped items", zap.String("reason", reason), zap.Int64("items", items), zap.String("message", message))
}

func authorize(request *http.Request, token string) {
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
}
