package spanpostexporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	versionPath  = "/control/v1/version"
	checkTimeout = 5 * time.Second
)

// errUnreached says that the gateway did not answer: no reason not to start.
var errUnreached = errors.New("the gateway cannot be asked now")

// gatewayVersion is the answer of the gateway.
type gatewayVersion struct {
	Version string `json:"version"`
	Tenant  string `json:"tenant"`
}

// check asks the gateway for its version, with each token.
func (c *Config) check(ctx context.Context, httpClient *http.Client, logger *zap.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	tokens := map[string]string{}
	for tenant, token := range c.Tenant.Tokens {
		tokens["the token of tenant "+tenant] = string(token)
	}
	if c.Token != "" || len(tokens) == 0 {
		tokens["token"] = string(c.Token)
	}
	var found []error
	for name, token := range tokens {
		answer, err := c.askVersion(ctx, httpClient, token)
		if err == nil && series(answer.Version) != series(version) {
			err = fmt.Errorf(
				"the gateway is spanpost %s, and this exporter's rules are of %s: use the exporter of the gateway's release",
				answer.Version, version,
			)
		}
		if errors.Is(err, errUnreached) {
			logger.Info("The gateway's version is not checked", zap.Error(err))
			return nil
		}
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", name, err))
			continue
		}
		logger.Info("The gateway is checked", zap.String("version", answer.Version), zap.String("tenant", answer.Tenant))
	}
	return errors.Join(found...)
}

func (c *Config) askVersion(ctx context.Context, httpClient *http.Client, token string) (gatewayVersion, error) {
	var found gatewayVersion
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.target(versionPath), http.NoBody)
	if err != nil {
		return found, err
	}
	authorize(request, token)
	response, err := httpClient.Do(request)
	if err != nil {
		return found, fmt.Errorf("%w: %w", errUnreached, err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusOK:
		if json.NewDecoder(io.LimitReader(response.Body, mostAnswer)).Decode(&found) != nil || found.Version == "" {
			return found, fmt.Errorf("%s is no spanpost gateway", c.ClientConfig.Endpoint)
		}
		return found, nil
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		return found, fmt.Errorf("the gateway refuses it (%d)", response.StatusCode)
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError:
		return found, fmt.Errorf("%w: it answered %d", errUnreached, response.StatusCode)
	default:
		return found, fmt.Errorf("%s answered %d: it is no spanpost gateway, or one older than %s",
			c.target(versionPath), response.StatusCode, version)
	}
}

// series returns the part of a version within which releases understand each other: 0.1 of 0.1.7.
func series(of string) string {
	parts := strings.SplitN(of, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}
