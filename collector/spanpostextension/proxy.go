package spanpostextension

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// Heads of the paths that go on to the gateway.
const (
	control  = "/control/v1/"
	webhooks = "/hooks/"
)

// questions is where an agent asks before it waits: the gateway has stored the question when it answers.
const questions = "/v1/logs"

// controlProxy passes requests of agents on to the gateway.
//
// Its rules, in this order:
//
//  1. Only the control API, the questions and the webhooks exist (404).
//  2. No web page may send here (403): agents are programs.
//  3. Without a credential of the agent, the host must be one of ours (403): a web page whose name was made to
//     point here sends that name.
//  4. Where `agent_tokens` are set, one of them is needed (401), but for webhooks: they are signed, and the gateway
//     judges them.
//  5. The gateway gets its token, and the headers of a proxy as this one sets them.
type controlProxy struct {
	config   *Config
	settings component.TelemetrySettings

	server    *http.Server
	transport http.RoundTripper
	client    *http.Client
	cancel    context.CancelFunc
	serving   sync.WaitGroup
	address   net.Addr
}

// Start listens.
func (p *controlProxy) Start(ctx context.Context, host component.Host) error {
	target, err := url.Parse(p.config.Gateway.Endpoint)
	if err != nil {
		return err
	}
	if p.client, err = p.config.Gateway.ToClient(ctx, host.GetExtensions(), p.settings); err != nil {
		return err
	}
	p.transport = p.client.Transport
	handler := p.guarded(p.proxy(target))
	if p.server, err = p.config.ServerConfig.ToServer(ctx, host.GetExtensions(), p.settings, handler); err != nil {
		return err
	}
	listener, err := p.config.ServerConfig.ToListener(ctx)
	if err != nil {
		return err
	}
	p.address = listener.Addr()
	base, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.server.BaseContext = func(net.Listener) context.Context { return base }
	limited := netutil.LimitListener(listener, p.config.MaxConnections)
	p.serving.Go(func() {
		if err := p.server.Serve(limited); !errors.Is(err, http.ErrServerClosed) {
			p.settings.Logger.Error("The control API is not offered any more", zap.Error(err))
		}
	})
	return nil
}

// Shutdown answers the agents that wait, and closes.
func (p *controlProxy) Shutdown(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	if p.cancel != nil {
		p.cancel()
	}
	err := p.server.Shutdown(ctx)
	if err != nil {
		err = p.server.Close()
	}
	p.serving.Wait()
	p.client.CloseIdleConnections()
	return err
}

// guarded applies the first four rules.
func (p *controlProxy) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		escaped := r.URL.EscapedPath()
		isControl := isOfAgents(escaped)
		switch {
		case !isControl && !strings.HasPrefix(escaped, webhooks) || climbs(escaped):
			refuse(w, http.StatusNotFound, "there is "+control+", "+questions+" and "+webhooks)
		case len(r.Header.Values("Origin")) > 0 || hasOtherSite(r.Header):
			refuse(w, http.StatusForbidden, "a web page sent this: only programs may")
		case isControl && len(p.config.AgentTokens) > 0 && !isOneOf(bearer(r.Header), p.config.AgentTokens):
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "an agent's token of this Collector is needed, as Authorization: Bearer ...")
		case isControl && !p.config.hasOwnTokens() && !p.config.knows(r.Host):
			refuse(w, http.StatusForbidden, "the host is not known here: use 127.0.0.1 or localhost, or name it in `hosts`")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// proxy applies the last rule.
func (p *controlProxy) proxy(target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.Host = target.Host
			for name := range request.Out.Header {
				if isOfProxy(name) {
					request.Out.Header.Del(name)
				}
			}
			request.SetXForwarded()
			if p.config.lends() {
				request.Out.Header.Del("Authorization")
			}
			if p.config.Token != "" && isOfAgents(request.In.URL.EscapedPath()) {
				request.Out.Header.Set("Authorization", "Bearer "+string(p.config.Token))
			}
		},
		Transport:     patient{p.transport, p.config.Gateway.Timeout},
		FlushInterval: -1, // an event is passed on at once
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				refuse(w, http.StatusRequestEntityTooLarge, "the body is larger than max_request_body_size of this Collector")
				return
			}
			if r.Context().Err() == nil {
				// The error names the gateway's address, never a header; the path may hold the id of a question.
				p.settings.Logger.Warn("The gateway cannot be reached", zap.Error(err))
			}
			w.Header().Set("Retry-After", "2")
			refuse(w, http.StatusServiceUnavailable, "the gateway cannot be reached from this Collector: try again")
		},
	}
}

// patient waits for the head of an answer, and then as long as the answer takes.
type patient struct {
	next http.RoundTripper
	wait time.Duration
}

// RoundTrip sends a request.
func (t patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.wait <= 0 {
		return t.next.RoundTrip(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	timer := time.AfterFunc(t.wait, cancel)
	response, err := t.next.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = closing{response.Body, cancel}
	return response, nil
}

// closing ends the request's context with the body.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close ends both.
func (c closing) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// isOfAgents reports whether agents send to this path.
func isOfAgents(escaped string) bool {
	return strings.HasPrefix(escaped, control) || escaped == questions
}

// climbs reports whether a path leaves its head again.
func climbs(escaped string) bool {
	for _, part := range strings.Split(escaped, "/") {
		if part = strings.ReplaceAll(strings.ToLower(part), "%2e", "."); part == "." || part == ".." {
			return true
		}
	}
	return false
}

// isOfProxy reports whether a header claims where a request came from.
func isOfProxy(name string) bool {
	name = strings.ToLower(name)
	return name == "forwarded" || name == "via" || strings.HasPrefix(name, "x-forwarded-") || strings.HasSuffix(name, "-ip")
}

func hasOtherSite(header http.Header) bool {
	for _, site := range header.Values("Sec-Fetch-Site") {
		if site != "none" {
			return true
		}
	}
	return false
}

// bearer returns the bearer token; empty: none, or several.
func bearer(header http.Header) string {
	said := header.Values("Authorization")
	if len(said) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(said[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// isOneOf compares a token with all, each in constant time.
func isOneOf(token string, known []configopaque.String) bool {
	digest, found := sha256.Sum256([]byte(token)), 0
	for _, each := range known {
		other := sha256.Sum256([]byte(each))
		found |= subtle.ConstantTimeCompare(digest[:], other[:])
	}
	return token != "" && found == 1
}

// refuse answers with a google.rpc.Status, as the gateway does.
func refuse(w http.ResponseWriter, status int, message string) {
	codes := map[int]int{
		http.StatusUnauthorized: 16, http.StatusForbidden: 7, http.StatusNotFound: 5,
		http.StatusRequestEntityTooLarge: 8, http.StatusServiceUnavailable: 14,
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": codes[status], "message": message, "details": []any{}})
}
