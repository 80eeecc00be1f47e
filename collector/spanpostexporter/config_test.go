package spanpostexporter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
)

// By default an exporter never gives up, blocks where its queue is full, and keeps words of people to itself.
func TestDefaults(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	require.Zero(t, cfg.RetryConfig.MaxElapsedTime)
	queue := cfg.QueueConfig.GetOrInsertDefault()
	require.True(t, queue.BlockOnOverflow)
	require.False(t, queue.WaitForResult)
	require.Equal(t, []string{drop, drop, checkWarn}, []string{cfg.Content, cfg.Strangers, cfg.StartupCheck})
}

// Each mistake is named.
func TestMistakes(t *testing.T) {
	for said, change := range map[string]func(*Config){
		"endpoint: the gateway's URL": func(c *Config) { c.ClientConfig.Endpoint = "127.0.0.1:4318" },
		"endpoint: the URL holds":     func(c *Config) { c.ClientConfig.Endpoint = "http://me:secret@127.0.0.1" },
		"token: set either": func(c *Config) {
			c.Token, c.ClientConfig.Auth = "t", configoptional.Some(configauth.Config{})
		},
		"content: ":           func(c *Config) { c.Content = "maybe" },
		"strangers: ":         func(c *Config) { c.Strangers = "" },
		"startup_check: ":     func(c *Config) { c.StartupCheck = "yes" },
		"max_request_bytes: ": func(c *Config) { c.MaxRequestBytes = 1 },
		"tenant: name the":    func(c *Config) { c.Tenant.Metadata = "x-tenant" },
		"tenant: list the":    func(c *Config) { c.Tenant.Attribute = "tenant" },
	} {
		t.Run(said, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			cfg.ClientConfig.Endpoint = "http://127.0.0.1:4318"
			require.NoError(t, cfg.Validate())
			change(cfg)
			require.ErrorContains(t, cfg.Validate(), said)
		})
	}
}

// A file is read, and whether it says what a full queue does is known.
func TestAFileIsRead(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"endpoint": "https://spanpost.example.com/", "token": "secret", "content": "keep",
		"tenant":        map[string]any{"attribute": "tenant", "tokens": map[string]any{"a": "other"}},
		"sending_queue": map[string]any{"wait_for_result": false, "queue_size": 1000},
	}).Unmarshal(&cfg))
	require.NoError(t, cfg.Validate())
	require.True(t, cfg.waitIsSet)
	require.Equal(t, configopaque.String("other"), cfg.Tenant.Tokens["a"])
	require.Equal(t, "https://spanpost.example.com/v1/traces", cfg.target("/v1/traces"))
	require.NotContains(t, cfg.Token.String(), "secret")
	disabled := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"sending_queue": map[string]any{"enabled": false}}).Unmarshal(&disabled))
	found, err := disabled.queue(host{}, nil)
	require.NoError(t, err)
	require.False(t, found.HasValue())
}
