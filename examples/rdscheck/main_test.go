package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestRun_PrintsTable(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{server.TLS(faults.CertificateValid)}, &out))
	text := out.String()
	for _, want := range []string{
		"CHECK", "encryption .*TLS 1.3", "certificate issuer .*fxtest .*expires on", "server version", "login method", "server role +writer",
		"round trip of select 1 +[0-9.]+[µm]s", "topology +not followed", "functions of AWS +0", "connection slots +[0-9]+ of [0-9]+ in use",
		"budget for all pools +[0-9]+", "rds.force_ssl +not present", "default_toast_compression +pglz +recommended: lz4",
		"synchronous_commit +on +ok",
	} {
		assert.Regexp(t, want, text)
	}

	out.Reset()
	require.NoError(t, run(t.Context(), []string{server.URL()}, &out))
	assert.Regexp(t, "encryption +none +set TLS.Mode to verify-full", out.String())
	assert.NotContains(t, out.String(), "failed")
	admin := fxtest.DB(t, fxtest.At(server.URL()))
	_, err := admin.Pool().Exec(t.Context(), "create role limited login password 'limited'; revoke select on pg_settings from public")
	require.NoError(t, err)
	limited, err := url.Parse(server.URL())
	require.NoError(t, err)
	limited.User = url.UserPassword("limited", "limited")
	out.Reset()
	require.NoError(t, run(t.Context(), []string{limited.String()}, &out))
	assert.Regexp(t, "parameters +failed +read parameter rds.force_ssl: .*permission denied", out.String())
	assert.Contains(t, out.String(), "connection slots", "the other checks go on")

	password, err := url.Parse(server.URL())
	require.NoError(t, err)
	if secret, ok := password.User.Password(); ok {
		assert.NotContains(t, out.String(), secret)
	}
}

func TestRun_Errors(t *testing.T) {
	t.Parallel()
	require.Error(t, run(t.Context(), []string{"--unknown"}, io.Discard))
	err := run(t.Context(), []string{"--iam", "--region", "eu-west-1", "postgres://app@localhost:1/app?sslmode=full"}, io.Discard)
	require.ErrorContains(t, err, "sslmode")
}

func TestWatch_PrintsGap(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"--watch", server.URL()}, writer)
		_ = writer.CloseWithError(err)
		done <- err
	}()
	var gap, summary string
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "writing;"):
			server.Restart()
		case strings.Contains(line, "gap ") && strings.Contains(line, "server") && gap == "":
			gap = line
			cancel()
		case strings.Contains(line, "longest gap"):
			summary = line
		}
	}
	require.NoError(t, <-done)
	assert.Regexp(t, `gap [0-9.]+m?s, [0-9]+ writes failed, server .* → .*`, gap)
	assert.Regexp(t, `^[0-9]+ writes, [0-9]+ failed, longest gap [0-9.]+`, summary)
	db := fxtest.DB(t, fxtest.At(server.URL()))
	var left bool
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select to_regclass('rdscheck_watch') is not null").Scan(&left))
	assert.False(t, left)
}
