package spanpostexporter

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

// What is taken is delivered; temporary errors are tried again and permanent ones are not.
func TestConsumeContract(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	receiver := otlpreceiver.NewFactory()
	receiving := receiver.CreateDefaultConfig().(*otlpreceiver.Config)
	receiving.Protocols.HTTP.GetOrInsertDefault()
	receiving.Protocols.HTTP.Get().ServerConfig.NetAddr.Endpoint = address
	cfg := createDefaultConfig().(*Config)
	cfg.ClientConfig.Endpoint = "http://" + address
	cfg.StartupCheck = checkOff
	cfg.RetryConfig.InitialInterval, cfg.RetryConfig.MaxInterval = time.Millisecond, time.Millisecond
	for _, signal := range []pipeline.Signal{pipeline.SignalTraces, pipeline.SignalLogs, pipeline.SignalMetrics} {
		t.Run(signal.String(), func(t *testing.T) {
			exportertest.CheckConsumeContract(exportertest.CheckConsumeContractParams{
				T: t, NumberOfTestElements: 10, Signal: signal,
				ExporterFactory: NewFactory(), ExporterConfig: cfg,
				ReceiverFactory: receiver, ReceiverConfig: receiving,
			})
		})
	}
}
