package spanpostexporter

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
)

func start(t *testing.T, cfg *Config) (int, error) {
	set, seen := settings()
	e, err := NewFactory().CreateTraces(context.Background(), set, cfg)
	require.NoError(t, err)
	err = e.Start(context.Background(), componenttest.NewNopHost())
	if err == nil && cfg.StartupCheck == checkWarn {
		e.(tracesExporter).checks.Wait()
	}
	require.NoError(t, e.Shutdown(context.Background()))
	return seen.FilterMessage("The gateway is not as expected").Len(), err
}

// A gateway of another release, an unknown token and another server are warned of, or keep the Collector from starting.
func TestTheGatewayIsChecked(t *testing.T) {
	for name, say := range map[string]http.HandlerFunc{
		"another release": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"version": "9.9.9"}`)) },
		"unknown token":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"another server":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"a page":          func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<h1>Hello</h1>")) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			g.version = say
			warnings, err := start(t, configFor(g, func(c *Config) { c.StartupCheck = checkWarn }))
			require.NoError(t, err)
			require.Equal(t, 1, warnings)
			_, err = start(t, configFor(g, func(c *Config) { c.StartupCheck = checkFail }))
			require.Error(t, err)
		})
	}
}

// The gateway of this release passes with each tenant's token.
func TestTheRightGatewayPasses(t *testing.T) {
	g := newGateway(t)
	_, err := start(t, configFor(g, func(c *Config) {
		c.StartupCheck = checkFail
		c.Tenant = TenantConfig{Attribute: "t", Tokens: map[string]configopaque.String{"a": "1", "b": "2"}}
	}))
	require.NoError(t, err)
}

// A gateway that is down, busy or silent never keeps the Collector from starting.
func TestTheCollectorStartsWithoutTheGateway(t *testing.T) {
	g := newGateway(t)
	g.version = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	_, err := start(t, configFor(g, func(c *Config) { c.StartupCheck = checkFail }))
	require.NoError(t, err)
	silent := newGateway(t)
	silent.version = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	_, err = start(t, configFor(silent, func(c *Config) {
		c.StartupCheck = checkFail
		c.ClientConfig.Timeout = 50 * time.Millisecond
	}))
	require.NoError(t, err)
	g.Close()
	_, err = start(t, configFor(g, func(c *Config) { c.StartupCheck = checkFail }))
	require.NoError(t, err)
}

// Shutdown does not wait for a check.
func TestShutdownEndsACheck(t *testing.T) {
	g := newGateway(t)
	asked := make(chan struct{})
	g.version = func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}
	set, _ := settings()
	e, err := NewFactory().CreateTraces(context.Background(), set, configFor(g, func(c *Config) { c.StartupCheck = checkWarn }))
	require.NoError(t, err)
	require.NoError(t, e.Start(context.Background(), componenttest.NewNopHost()))
	<-asked
	began := time.Now()
	require.NoError(t, e.Shutdown(context.Background()))
	require.Less(t, time.Since(began), checkTimeout)
}
