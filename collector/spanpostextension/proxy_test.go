package spanpostextension

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/spanpost/spanpost/collector/spanpostextension/internal/metadata"
)

const (
	agentToken   = "an-agents-own-token-1"
	gatewayToken = "spt_the-gateways-token"
)

func started(t *testing.T, gateway string, change ...func(*Config)) (string, *observer.ObservedLogs, func()) {
	cfg := createDefaultConfig().(*Config)
	cfg.ServerConfig.NetAddr.Endpoint = "127.0.0.1:0"
	cfg.Gateway.Endpoint = gateway
	for _, one := range change {
		one(cfg)
	}
	require.NoError(t, cfg.Validate())
	core, seen := observer.New(zapcore.DebugLevel)
	set := extensiontest.NewNopSettings(metadata.Type)
	set.Logger = zap.New(core)
	proxy, err := create(context.Background(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, proxy.Start(context.Background(), componenttest.NewNopHost()))
	isOver := false
	stop := func() {
		if !isOver {
			isOver = true
			require.NoError(t, proxy.Shutdown(context.Background()))
		}
	}
	t.Cleanup(stop)
	return "http://" + proxy.(*controlProxy).address.String(), seen, stop
}

func ask(t *testing.T, method, url string, body io.Reader, headers ...string) (int, string) {
	request, err := http.NewRequest(method, url, body)
	require.NoError(t, err)
	for at := 0; at < len(headers); at += 2 {
		if headers[at] == "Host" {
			request.Host = headers[at+1]
		} else {
			request.Header.Set(headers[at], headers[at+1])
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(said)
}

func echo(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s|%s|%s|%s|%s|%s|%s", r.RequestURI, r.Host, r.Header.Get("Authorization"),
			strings.Join(r.Header.Values("X-Forwarded-For"), "+"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Real-Ip"), body)
	}))
	t.Cleanup(server.Close)
	return server
}

func lending(c *Config) { c.Token, c.AgentTokens = gatewayToken, []configopaque.String{agentToken} }

// The gateway gets its own token and host, the headers of this proxy alone, and the path and the body as they came.
func TestARequestGoesOn(t *testing.T) {
	gateway := echo(t)
	url, seen, _ := started(t, gateway.URL, lending)
	status, said := ask(t, "POST", url+"/control/v1/approvals/a%2Fb?wait=1.5", strings.NewReader("{}"),
		"Authorization", "Bearer "+agentToken, "X-Forwarded-For", "6.6.6.6", "X-Real-IP", "6.6.6.6", "Via", "evil")
	require.Equal(t, 200, status)
	require.Equal(t, fmt.Sprintf("/control/v1/approvals/a%%2Fb?wait=1.5|%s|Bearer %s|127.0.0.1|http||{}",
		strings.TrimPrefix(gateway.URL, "http://"), gatewayToken), said)
	_, said = ask(t, "POST", url+"/v1/logs", strings.NewReader("{}"), "Authorization", "Bearer "+agentToken)
	require.Contains(t, said, "|Bearer "+gatewayToken+"|")
	for _, line := range seen.All() {
		require.NotContains(t, fmt.Sprint(line.Message, line.ContextMap()), "token-1")
	}
}

// Without a token of this Collector the agent's own passes through, and the gateway judges it.
func TestAnAgentsOwnTokenPassesThrough(t *testing.T) {
	url, _, _ := started(t, echo(t).URL)
	_, said := ask(t, "GET", url+"/control/v1/tasks/t", nil, "Authorization", "Bearer spt_mine")
	require.Contains(t, said, "|Bearer spt_mine|")
}

// Webhooks are signed: they pass without a token, and get none.
func TestWebhooksPass(t *testing.T) {
	url, _, _ := started(t, echo(t).URL, lending)
	status, said := ask(t, "POST", url+"/hooks/github", strings.NewReader("signed"))
	require.Equal(t, 200, status)
	require.NotContains(t, said, gatewayToken)
	require.Contains(t, said, "signed")
}

// Other paths, strangers, web pages and rebound names are refused, and the gateway sees none of them.
func TestOthersAreRefused(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it went on") }))
	defer gateway.Close()
	url, _, _ := started(t, gateway.URL, lending)
	open, _, _ := started(t, gateway.URL, func(c *Config) { c.Token = gatewayToken })
	good := []string{"Authorization", "Bearer " + agentToken}
	for name, one := range map[string]struct {
		url     string
		headers []string
		status  int
	}{
		"the API":          {url + "/api/tasks", good, 404},
		"spans":            {url + "/v1/traces", good, 404},
		"climbing":         {url + "/control/v1/%2e%2e/%2E%2e/api/tasks", good, 404},
		"no token to ask":  {url + "/v1/logs", nil, 401},
		"no token":         {url + "/control/v1/tasks/t", nil, 401},
		"another token":    {url + "/control/v1/tasks/t", []string{"Authorization", "Bearer " + gatewayToken}, 401},
		"a scheme":         {url + "/control/v1/tasks/t", []string{"Authorization", "Basic " + agentToken}, 401},
		"a page":           {url + "/control/v1/tasks/t", append([]string{"Origin", "http://evil.example"}, good...), 403},
		"another site":     {url + "/control/v1/tasks/t", append([]string{"Sec-Fetch-Site", "cross-site"}, good...), 403},
		"a rebound name":   {open + "/control/v1/tasks/t", []string{"Host", "evil.example"}, 403},
		"without any host": {open + "/control/v1/tasks/t", []string{"Host", "10.0.0.7:80"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			status, said := ask(t, "GET", one.url, nil, one.headers...)
			require.Equal(t, one.status, status)
			require.Contains(t, said, `"code":`)
		})
	}
}

// A body above the limit is refused with 413.
func TestALargeBodyIsRefused(t *testing.T) {
	url, _, _ := started(t, echo(t).URL, func(c *Config) { c.ServerConfig.MaxRequestBodySize = 1000 })
	status, _ := ask(t, "POST", url+"/hooks/x", strings.NewReader(strings.Repeat("x", 2000)))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
}

// A gateway that is down, or does not answer in time, is 503 with a time to come back.
func TestTheGatewayIsDown(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	url, seen, _ := started(t, gateway.URL, func(c *Config) { c.Gateway.Timeout = 20 * time.Millisecond })
	status, _ := ask(t, "GET", url+"/control/v1/tasks/t", nil)
	require.Equal(t, 503, status)
	gateway.Close()
	status, said := ask(t, "GET", url+"/control/v1/tasks/t", nil)
	require.Equal(t, 503, status)
	require.Contains(t, said, `"code":14`)
	require.NotZero(t, seen.FilterMessage("The gateway cannot be reached").Len())
}

// Events are passed on as they come, for as long as they come.
func TestAStreamIsPassedOn(t *testing.T) {
	next := make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for number := 0; ; number++ {
			fmt.Fprintf(w, "data: %d\n", number)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(gateway.Close)
	url, _, _ := started(t, gateway.URL, func(c *Config) { c.Gateway.Timeout = time.Second })
	response, err := http.Get(url + "/control/v1/events")
	require.NoError(t, err)
	lines := bufio.NewScanner(response.Body)
	for number := range 3 {
		require.True(t, lines.Scan())
		require.Equal(t, fmt.Sprintf("data: %d", number), lines.Text())
		next <- struct{}{}
	}
	require.NoError(t, response.Body.Close())
	http.DefaultClient.CloseIdleConnections()
}

// A Collector that stops answers the agents that wait, at once.
func TestShutdownAnswersWaitingAgents(t *testing.T) {
	waiting := make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(waiting)
		<-r.Context().Done()
	}))
	t.Cleanup(gateway.Close)
	url, _, stop := started(t, gateway.URL)
	answered := make(chan int)
	go func() {
		status, _ := ask(t, "GET", url+"/control/v1/approvals/a?wait=50", nil)
		answered <- status
	}()
	<-waiting
	stop()
	require.Equal(t, 503, <-answered)
}

// A taken port is an error of the start, and an extension that never started stops.
func TestATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	cfg := createDefaultConfig().(*Config)
	cfg.Gateway.Endpoint = "http://127.0.0.1:1"
	cfg.ServerConfig.NetAddr.Endpoint = taken.Addr().String()
	proxy, err := NewFactory().Create(context.Background(), extensiontest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	require.Error(t, proxy.Start(context.Background(), componenttest.NewNopHost()))
	require.NoError(t, proxy.Shutdown(context.Background()))
}

// Each mistake is named; a token is lent to no stranger.
func TestMistakes(t *testing.T) {
	for said, change := range map[string]func(*Config){
		"gateway: endpoint":    func(c *Config) { c.Gateway.Endpoint = "gateway:4318" },
		"gateway: compression": func(c *Config) { c.Gateway.Compression = "gzip" },
		"token: set either": func(c *Config) {
			c.Token, c.Gateway.Auth = gatewayToken, configoptional.Some(configauth.Config{})
		},
		"agent_tokens: each has":      func(c *Config) { c.AgentTokens = []configopaque.String{"short"} },
		"agent_tokens: they replace":  func(c *Config) { c.AgentTokens = []configopaque.String{agentToken} },
		"agent_tokens: every program": func(c *Config) { c.Token, c.ServerConfig.NetAddr.Endpoint = gatewayToken, "0.0.0.0:4319" },
		"max_connections":             func(c *Config) { c.MaxConnections = 0 },
	} {
		t.Run(said, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			cfg.Gateway.Endpoint = "http://127.0.0.1:4318"
			require.NoError(t, cfg.Validate())
			change(cfg)
			require.ErrorContains(t, cfg.Validate(), said)
		})
	}
}

// Loopback and the names in `hosts` are known, with any port.
func TestKnownHosts(t *testing.T) {
	cfg := Config{Hosts: []string{"collector.svc", "named:4319"}}
	for host, known := range map[string]bool{
		"localhost": true, "127.0.0.1:4319": true, "[::1]:80": true, "collector.svc:99": true, "named:4319": true,
		"named:80": false, "evil.example": false, "": false,
	} {
		require.Equal(t, known, cfg.knows(host), host)
	}
}
