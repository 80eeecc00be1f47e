package spanpostexporter

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// tenantOf returns the tenant that a resource names; empty: none.
func (c *Config) tenantOf(resource pcommon.Resource) string {
	if said, ok := resource.Attributes().Get(c.Tenant.Attribute); ok {
		return said.AsString()
	}
	return ""
}

// tokenOf returns a tenant's token; empty: none.
func (c *Config) tokenOf(tenant string) string {
	if token, ok := c.Tenant.Tokens[tenant]; ok {
		return string(token)
	}
	if tenant == "" {
		return string(c.Token)
	}
	return ""
}

// assignTenant writes the tenant of the request's header into the resources, where the queue keeps it, and refuses
// data without a token before it is acknowledged.
func assignTenant[T any](ctx context.Context, c *Config, s signal[T], data T) error {
	if c.Tenant.Attribute == "" {
		return nil
	}
	var unknown error
	s.resources(data, func(resource pcommon.Resource) {
		if c.Tenant.Metadata != "" {
			resource.Attributes().Remove(c.Tenant.Attribute)
			if said := client.FromContext(ctx).Metadata.Get(c.Tenant.Metadata); len(said) == 1 {
				resource.Attributes().PutStr(c.Tenant.Attribute, said[0])
			}
		}
		if tenant := c.tenantOf(resource); c.tokenOf(tenant) == "" {
			unknown = fmt.Errorf("no token for the tenant %.100q: name it in `tenant: tokens` of the spanpost exporter", tenant)
		}
	})
	if unknown != nil {
		return consumererror.NewPermanent(unknown)
	}
	return nil
}
