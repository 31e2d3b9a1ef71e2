package aurora

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestParseEndpoint_FindsRoles(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]endpoint{
		"app.cluster-abc123.eu-west-1.rds.amazonaws.com":          {roleWriter, "app", "?.abc123.eu-west-1.rds.amazonaws.com"},
		"App.Cluster-ABC123.eu-west-1.rds.amazonaws.com.":         {roleWriter, "app", "?.abc123.eu-west-1.rds.amazonaws.com"},
		"app.cluster-ro-abc123.eu-west-1.rds.amazonaws.com":       {roleReader, "app", "?.abc123.eu-west-1.rds.amazonaws.com"},
		"some.cluster-custom-abc123.eu-west-1.rds.amazonaws.com":  {roleCustom, "some", "?.abc123.eu-west-1.rds.amazonaws.com"},
		"app-1.abc123.eu-west-1.rds.amazonaws.com":                {roleInstance, "app-1", "?.abc123.eu-west-1.rds.amazonaws.com"},
		"app.cluster-abc123.rds.cn-north-1.amazonaws.com.cn":      {roleWriter, "app", "?.abc123.rds.cn-north-1.amazonaws.com.cn"},
		"app.cluster-abc123.cn-north-1.rds.amazonaws.com.cn":      {roleWriter, "app", "?.abc123.cn-north-1.rds.amazonaws.com.cn"},
		"app.cluster-abc123.us-gov-west-1.rds-fips.amazonaws.com": {roleWriter, "app", "?.abc123.us-gov-west-1.rds-fips.amazonaws.com"},
		"app.global-abc123.global.rds.amazonaws.com":              {role: roleGlobal, name: "app"},
		"pooled.proxy-abc123.eu-west-1.rds.amazonaws.com":         {role: roleProxy, name: "pooled"},
		"ro.endpoint.proxy-abc123.eu-west-1.rds.amazonaws.com":    {role: roleProxy, name: "ro"},
		"shards.shardgrp-abc123.eu-west-1.rds.amazonaws.com":      {role: roleProxy, name: "shards"},
		"app.cluster-abc123.eu-west-1.rds.example.com":            {},
		"bucket.s3.eu-west-1.amazonaws.com":                       {},
		"rds.amazonaws.com":                                       {},
		"localhost":                                               {},
		"10.0.0.1":                                                {},
		"/run/postgresql":                                         {},
		"":                                                        {},
	} {
		assert.Equal(t, want, parseEndpoint(host), host)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add("app.cluster-abc123.eu-west-1.rds.amazonaws.com")
	f.Add("..")
	f.Fuzz(func(t *testing.T, host string) {
		parsed := parseEndpoint(host)
		if parsed.pattern == "" {
			return
		}
		address, ok := instanceAddress(parsed.pattern, "app-1")
		assert.True(t, ok)
		if parsed.role != roleInstance {
			assert.Equal(t, roleInstance, parseEndpoint(address.Host).role, "%s leads to %s", host, address.Host)
		}
	})
}

func TestInstanceAddress_HasThePort(t *testing.T) {
	t.Parallel()
	address, ok := instanceAddress("?.db.internal:5433", "App-1")
	assert.True(t, ok)
	assert.Equal(t, pgfx.Address{Host: "app-1.db.internal", Port: 5433}, address)
	_, ok = instanceAddress("", "app-1")
	assert.False(t, ok)
}

func TestRegionOf_Partitions(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "eu-west-1", regionOf("?.abc123.eu-west-1.rds.amazonaws.com"))
	assert.Equal(t, "cn-north-1", regionOf("?.abc123.rds.cn-north-1.amazonaws.com.cn"))
	assert.Empty(t, regionOf("?.db.internal"))
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	assert.NoError(t, Config{}.validate())
	assert.NoError(t, Config{InstancePattern: "?.db.internal:5433", ReaderChoice: LeastLag}.validate())
	for text, config := range map[string]Config{
		"InstancePattern is \"db.internal\"": {InstancePattern: "db.internal"},
		"the port must be a number":          {InstancePattern: "?.db.internal:x"},
		"RegionPatterns[us-east-1] is \"x\"": {RegionPatterns: map[string]string{"us-east-1": "x"}},
		"ReaderChoice is \"random\": use":    {ReaderChoice: "random"},
	} {
		assert.ErrorContains(t, config.validate(), text)
	}
}
