//go:generate go tool -modfile=../internal/tools/go.mod mdatagen metadata.yaml

// Package spanpostextension offers a gateway's control API to agents that reach only their Collector.
package spanpostextension
