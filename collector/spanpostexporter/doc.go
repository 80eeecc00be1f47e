//go:generate go tool -modfile=../internal/tools/go.mod mdatagen metadata.yaml

// Package spanpostexporter sends traces, logs and metrics to a spanpost gateway.
package spanpostexporter
