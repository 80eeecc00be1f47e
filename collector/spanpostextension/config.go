package spanpostextension

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
)

// Config is the configuration of the extension.
type Config struct {
	// ServerConfig is where agents come in.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`
	// Gateway is the spanpost gateway; its `timeout` is how long the first byte of an answer may take.
	Gateway confighttp.ClientConfig `mapstructure:"gateway"`
	// Token is sent to the gateway in place of the agent's; empty: the agent's own passes through.
	Token configopaque.String `mapstructure:"token"`
	// AgentTokens are the tokens of which each agent needs one, where `token` replaces it.
	AgentTokens []configopaque.String `mapstructure:"agent_tokens"`
	// Hosts are the names by which agents reach this port, besides loopback.
	Hosts []string `mapstructure:"hosts"`
	// MaxConnections is the number of connections at once; the next wait.
	MaxConnections int `mapstructure:"max_connections"`
}

// Validate reports the first mistake.
func (c *Config) Validate() error {
	gateway, err := url.Parse(c.Gateway.Endpoint)
	if err != nil || gateway.Host == "" || gateway.Scheme != "http" && gateway.Scheme != "https" || gateway.User != nil {
		return errors.New("gateway: endpoint: the gateway's URL is needed, as in http://127.0.0.1:4318")
	}
	if c.Gateway.Compression.IsCompressed() {
		return errors.New("gateway: compression: requests go on as they came: remove it")
	}
	if c.Token != "" && c.Gateway.Auth.HasValue() {
		return errors.New("token: set either `token` or `gateway: auth`")
	}
	for _, token := range c.AgentTokens {
		if len(token) < 16 {
			return errors.New("agent_tokens: each has 16 characters or more")
		}
	}
	if len(c.AgentTokens) > 0 && !c.lends() {
		return errors.New("agent_tokens: they replace the gateway's token: set `token`, or let the agents' own pass through")
	}
	if c.lends() && !c.hasOwnTokens() && !c.isLoopback() {
		return errors.New("agent_tokens: every program that reaches this port would act as the tenant of `token`: " +
			"set `agent_tokens` or `auth`, or listen on 127.0.0.1")
	}
	if c.MaxConnections < 1 {
		return errors.New("max_connections: at least 1")
	}
	return nil
}

// lends reports whether requests go on with a credential of this Collector.
func (c *Config) lends() bool { return c.Token != "" || c.Gateway.Auth.HasValue() }

// hasOwnTokens reports whether agents must prove themselves here.
func (c *Config) hasOwnTokens() bool { return len(c.AgentTokens) > 0 || c.ServerConfig.Auth.HasValue() }

func (c *Config) isLoopback() bool {
	host, _, err := net.SplitHostPort(c.ServerConfig.NetAddr.Endpoint)
	return c.ServerConfig.NetAddr.Transport == "unix" || err == nil && isLoopback(host)
}

// knows reports whether a request may name this host: a web page whose name was made to point here may not.
func (c *Config) knows(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	name = strings.Trim(name, "[]")
	if isLoopback(name) {
		return true
	}
	for _, known := range c.Hosts {
		if strings.EqualFold(known, name) || strings.EqualFold(known, host) {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	address := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || address != nil && address.IsLoopback()
}

func createDefaultConfig() component.Config {
	server := confighttp.NewDefaultServerConfig()
	server.NetAddr.Endpoint = "127.0.0.1:4319"
	server.ReadHeaderTimeout = 10 * time.Second
	server.ReadTimeout = 30 * time.Second
	server.WriteTimeout = 0 // an agent waits up to 50 seconds for a person, and streams have no end
	server.MaxRequestBodySize = 1024 * 1024
	server.CompressionAlgorithms = []string{} // the body of a webhook is signed as it is

	gateway := confighttp.NewDefaultClientConfig()
	gateway.Timeout = 75 * time.Second
	gateway.MaxIdleConnsPerHost = 100
	return &Config{ServerConfig: server, Gateway: gateway, MaxConnections: 1000}
}
