package spanpostexporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/spanpost/spanpost/collector/spanpostexporter/internal/metadata"
)

// spanpostExporter builds the helper's exporter when it starts: only then the storage extensions are known.
type spanpostExporter[T any] struct {
	signal signal[T]
	set    exporter.Settings
	config *Config
	strip  stripper

	inner     built[T]
	client    *http.Client
	telemetry *metadata.TelemetryBuilder
	checks    sync.WaitGroup
	stopCheck context.CancelFunc
}

func newSpanpostExporter[T any](s signal[T], set exporter.Settings, cfg component.Config) *spanpostExporter[T] {
	config := cfg.(*Config)
	strip := stripper{dropsContent: config.Content == drop, dropsStrangers: config.Strangers == drop}
	return &spanpostExporter[T]{signal: s, set: set, config: config, strip: strip, stopCheck: func() {}}
}

// Capabilities says that the exporter changes what it is given.
func (e *spanpostExporter[T]) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// consume takes data: without what the gateway does not record, so that neither the queue nor the wire has it.
func (e *spanpostExporter[T]) consume(ctx context.Context, data T) error {
	if err := assignTenant(ctx, e.config, e.signal, data); err != nil {
		return err
	}
	if e.strip.isNeeded() {
		e.signal.strip(e.strip, data)
	}
	return e.inner.consume(ctx, data)
}

// Start opens the queue and checks the gateway.
func (e *spanpostExporter[T]) Start(ctx context.Context, host component.Host) error {
	var err error
	if e.client, err = e.config.ClientConfig.ToClient(ctx, host.GetExtensions(), e.set.TelemetrySettings); err != nil {
		return err
	}
	// A redirect would lose the body or send the token elsewhere.
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if e.telemetry, err = metadata.NewTelemetryBuilder(e.set.TelemetrySettings); err != nil {
		return err
	}
	if err = e.checkOnce(ctx, host); err != nil {
		return err
	}
	queue, err := e.config.queue(host.GetExtensions(), e.set.Logger)
	if err != nil {
		return err
	}
	push := &pusher[T]{
		signal: e.signal, config: e.config, client: e.client, logger: e.set.Logger, telemetry: e.telemetry,
		userAgent: fmt.Sprintf("spanpost-exporter/%s %s/%s (%s/%s)", version,
			e.set.BuildInfo.Command, e.set.BuildInfo.Version, runtime.GOOS, runtime.GOARCH),
	}
	e.inner, err = e.signal.build(ctx, e.set, e.config, push.push,
		exporterhelper.WithCapabilities(e.Capabilities()),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: 0}), // the client's timeout is each request's
		exporterhelper.WithRetry(e.config.RetryConfig),
		exporterhelper.WithQueue(queue),
	)
	if err != nil {
		return err
	}
	return e.inner.Start(ctx, host)
}

// Shutdown sends what it can, and leaves the rest in the queue.
func (e *spanpostExporter[T]) Shutdown(ctx context.Context) error {
	e.stopCheck()
	e.checks.Wait()
	var err error
	if e.inner.Component != nil {
		err = e.inner.Shutdown(ctx)
	}
	if e.client != nil {
		e.client.CloseIdleConnections()
	}
	if e.telemetry != nil {
		e.telemetry.Shutdown()
	}
	return err
}

// checkOnce asks the gateway for its version, for all signals of this configuration together.
func (e *spanpostExporter[T]) checkOnce(ctx context.Context, host component.Host) error {
	if e.config.StartupCheck == checkOff {
		return nil
	}
	var failed error
	e.config.checked.Do(func() {
		plain := e.config.ClientConfig
		plain.Compression = "" // it would give a GET a body
		var asking *http.Client
		if asking, failed = plain.ToClient(ctx, host.GetExtensions(), e.set.TelemetrySettings); failed != nil {
			return
		}
		asking.CheckRedirect = e.client.CheckRedirect
		checking, cancel := context.WithCancel(context.Background())
		e.stopCheck = cancel
		check := func() error {
			defer asking.CloseIdleConnections()
			return e.config.check(checking, asking, e.set.Logger)
		}
		if e.config.StartupCheck == checkFail {
			failed = check()
			return
		}
		e.checks.Go(func() {
			if err := check(); err != nil {
				e.set.Logger.Warn("The gateway is not as expected", zap.Error(err))
			}
		})
	})
	return failed
}

// queue returns the configuration of the queue. Its storage is by default the only storage extension of the
// service. Without any there is no queue by default: an answer in advance would promise what memory cannot keep.
func (c *Config) queue(
	extensions map[component.ID]component.Component, logger *zap.Logger,
) (configoptional.Optional[exporterhelper.QueueBatchConfig], error) {
	optional := c.QueueConfig
	isDefault := !optional.HasValue()
	queue := *optional.GetOrInsertDefault()
	if queue.NumConsumers == 0 {
		return configoptional.None[exporterhelper.QueueBatchConfig](), nil // `enabled: false`
	}
	if queue.StorageID == nil && !c.waitIsSet {
		var found []component.ID
		for id, one := range extensions {
			if _, ok := one.(storage.Extension); ok {
				found = append(found, id)
			}
		}
		if len(found) > 1 {
			return configoptional.None[exporterhelper.QueueBatchConfig](), errors.New(
				"sending_queue: storage: several extensions can store the queue: name the one to use")
		}
		if len(found) == 1 {
			queue.StorageID = &found[0]
		} else if isDefault {
			logger.Info("No storage extension: senders are answered when the gateway has answered")
			return configoptional.None[exporterhelper.QueueBatchConfig](), nil
		} else {
			queue.WaitForResult = true
		}
	}
	if queue.StorageID == nil && !queue.WaitForResult {
		logger.Warn("The queue is in memory alone: what it holds is lost with the Collector")
	}
	return configoptional.Some(queue), nil
}
