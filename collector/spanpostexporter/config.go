package spanpostexporter

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

// Words of `content` and `strangers`.
const (
	drop = "drop"
	keep = "keep"
)

// Words of `startup_check`.
const (
	checkWarn = "warn"
	checkFail = "fail"
	checkOff  = "off"
)

// Config is the configuration of the exporter.
type Config struct {
	// ClientConfig has the gateway's base URL in `endpoint`: the exporter adds /v1/traces and its like.
	ClientConfig confighttp.ClientConfig `mapstructure:",squash"`
	// RetryConfig never gives up by default.
	RetryConfig configretry.BackOffConfig `mapstructure:"retry_on_failure"`
	// QueueConfig is on disk where the service has a storage extension; without one there is no queue, and a
	// sender is answered when the gateway has answered.
	QueueConfig configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`

	// Token is sent to the gateway, and names the tenant.
	Token configopaque.String `mapstructure:"token"`
	// Tenant chooses another token by a resource attribute.
	Tenant TenantConfig `mapstructure:"tenant"`
	// Content is `drop` or `keep`: words of people and models, in attributes and bodies.
	Content string `mapstructure:"content"`
	// Strangers is `drop` or `keep`: attributes of spans that are not an agent's.
	Strangers string `mapstructure:"strangers"`
	// MaxRequestBytes is the size of a request before compression. A larger one is split between traces, and
	// within a trace that is larger itself.
	MaxRequestBytes int `mapstructure:"max_request_bytes"`
	// StartupCheck is `warn`, `fail` or `off`: what an unknown token or another version does. A gateway that
	// cannot be reached never keeps the Collector from starting.
	StartupCheck string `mapstructure:"startup_check"`

	waitIsSet bool
	checked   *sync.Once
}

// TenantConfig chooses the token of a request.
type TenantConfig struct {
	// Attribute is the resource attribute that names the tenant.
	Attribute string `mapstructure:"attribute"`
	// Metadata is the request header that names the tenant; the receiver needs `include_metadata`. It replaces
	// the attribute, so that no sender names a tenant by it.
	Metadata string `mapstructure:"metadata"`
	// Tokens are the gateway's tokens by tenant. A request of another tenant is refused.
	Tokens map[string]configopaque.String `mapstructure:"tokens"`
}

var _ confmap.Unmarshaler = (*Config)(nil)

// Unmarshal reads the configuration.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	c.waitIsSet = conf.IsSet("sending_queue::wait_for_result")
	return nil
}

// Validate reports the first mistake.
func (c *Config) Validate() error {
	endpoint, err := url.Parse(c.ClientConfig.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return errors.New("endpoint: the gateway's URL is needed, as in http://127.0.0.1:4318")
	}
	if endpoint.User != nil || endpoint.RawQuery != "" {
		return errors.New("endpoint: the URL holds no credentials and no query: set `token`")
	}
	if c.ClientConfig.Auth.HasValue() && (c.Token != "" || len(c.Tenant.Tokens) > 0) {
		return errors.New("token: set either `token` and `tenant`, or `auth`")
	}
	for name, said := range map[string]string{"content": c.Content, "strangers": c.Strangers} {
		if said != drop && said != keep {
			return fmt.Errorf("%s: %q is neither `drop` nor `keep`", name, said)
		}
	}
	if c.StartupCheck != checkWarn && c.StartupCheck != checkFail && c.StartupCheck != checkOff {
		return fmt.Errorf("startup_check: %q is none of `warn`, `fail` and `off`", c.StartupCheck)
	}
	if c.MaxRequestBytes < 1024 {
		return errors.New("max_request_bytes: at least 1024")
	}
	if c.Tenant.Attribute == "" && (c.Tenant.Metadata != "" || len(c.Tenant.Tokens) > 0) {
		return errors.New("tenant: name the resource attribute of the tenant in `attribute`")
	}
	if c.Tenant.Attribute != "" && len(c.Tenant.Tokens) == 0 {
		return errors.New("tenant: list the token of each tenant in `tokens`")
	}
	return nil
}

// target returns the URL of a path of the gateway.
func (c *Config) target(path string) string {
	return strings.TrimRight(c.ClientConfig.Endpoint, "/") + path
}

func createDefaultConfig() component.Config {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 30 * time.Second
	client.Compression = configcompression.TypeGzip
	client.WriteBufferSize = 64 * 1024

	retry := configretry.NewDefaultBackOffConfig()
	retry.InitialInterval = time.Second
	retry.MaxInterval = 10 * time.Second
	retry.MaxElapsedTime = 0

	queue := exporterhelper.NewDefaultQueueConfig()
	queue.Sizer = exporterhelper.RequestSizerTypeBytes
	queue.QueueSize = 512 * 1024 * 1024
	queue.BlockOnOverflow = true
	queue.NumConsumers = 4
	// The limit of a request is `max_request_bytes`: `max_size` would cut traces.
	queue.Batch = configoptional.Some(exporterhelper.BatchConfig{
		FlushTimeout: 200 * time.Millisecond,
		Sizer:        exporterhelper.RequestSizerTypeItems,
		MinSize:      512,
	})

	return &Config{
		ClientConfig:    client,
		RetryConfig:     retry,
		QueueConfig:     configoptional.Default(queue),
		Content:         drop,
		Strangers:       drop,
		MaxRequestBytes: 4 * 1024 * 1024,
		StartupCheck:    checkWarn,
		checked:         &sync.Once{},
	}
}
