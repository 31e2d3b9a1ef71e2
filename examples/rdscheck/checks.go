package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// checkAll returns the rows of all checks. A check that the server refuses has a row with the error.
func checkAll(ctx context.Context, db *pgfx.DB) []row {
	rows := []row{{"target", db.Target(), ""}}
	for _, check := range []struct {
		name string
		run  func(context.Context, *pgfx.DB) ([]row, error)
	}{
		{"encryption", checkConnection},
		{"server", checkServer},
		{"latency", checkLatency},
		{"topology", checkTopology},
		{"connection slots", checkSlots},
		{"parameters", checkParameters},
	} {
		more, err := check.run(ctx, db)
		if err != nil {
			more = append(more, row{check.name, "failed", err.Error()})
		}
		rows = append(rows, more...)
	}
	return rows
}

// checkConnection reports how a connection is encrypted.
func checkConnection(ctx context.Context, db *pgfx.DB) (rows []row, err error) {
	conn, err := db.Connect(ctx, "check")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	encrypted, ok := conn.PgConn().Conn().(*tls.Conn)
	if !ok {
		return []row{{"encryption", "none", "set TLS.Mode to verify-full"}}, nil
	}
	state := encrypted.ConnectionState()
	note := ""
	if mode := db.Config().TLS.Mode; mode != pgfx.TLSVerifyFull && !strings.Contains(db.Config().URL, "sslmode=verify-full") {
		note = "the server is not verified: set TLS.Mode to verify-full"
	}
	certificate := state.PeerCertificates[0]
	return []row{
		{"encryption", tls.VersionName(state.Version) + ", " + tls.CipherSuiteName(state.CipherSuite), note},
		{"certificate issuer", certificate.Issuer.CommonName, "expires on " + certificate.NotAfter.Format(time.DateOnly)},
	}, nil
}

// checkServer reports what the server is and how the login was made.
func checkServer(ctx context.Context, db *pgfx.DB) ([]row, error) {
	var version string
	var number int
	var readOnly bool
	err := db.Pool().QueryRow(ctx, `select current_setting('server_version'), current_setting('server_version_num')::int,
		current_setting('transaction_read_only')::bool`).Scan(&version, &number, &readOnly)
	if err != nil {
		return nil, fmt.Errorf("read the version: %w", err)
	}
	method, note := "", "known from PostgreSQL 16"
	if number >= 160000 {
		var user *string // null for trust
		if err := db.Pool().QueryRow(ctx, "select system_user").Scan(&user); err != nil {
			return nil, fmt.Errorf("read the login method: %w", err)
		}
		method, note = "none (trust)", "the server accepts every client"
		if user != nil {
			method, _, _ = strings.Cut(*user, ":")
			note = ""
		}
	}
	role := "writer"
	if readOnly {
		role = "read-only"
	}
	return []row{{"server version", version, ""}, {"login method", method, note}, {"server role", role, ""}}, nil
}

const (
	connectSamples   = 5
	statementSamples = 50
)

// checkLatency reports the medians of connecting and of one round trip.
func checkLatency(ctx context.Context, db *pgfx.DB) ([]row, error) {
	connect, err := median(connectSamples, func() error {
		conn, err := db.Connect(ctx, "check")
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return nil, err
	}
	statement, err := median(statementSamples, func() error {
		_, err := db.Pool().Exec(ctx, "select 1")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("select 1: %w", err)
	}
	return []row{
		{"connect and disconnect", connect.String(), fmt.Sprintf("median of %d", connectSamples)},
		{"round trip of select 1", statement.String(), fmt.Sprintf("median of %d", statementSamples)},
	}, nil
}

func median(samples int, fn func() error) (time.Duration, error) {
	times := make([]time.Duration, samples)
	for i := range times {
		began := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[samples/2].Round(10 * time.Microsecond), nil //nolint:mnd // enough digits
}

// checkTopology reports the cluster, and which functions that describe one the server has.
func checkTopology(ctx context.Context, db *pgfx.DB) ([]row, error) {
	topology := db.Topology()
	rows := []row{{"topology", string(topology.Kind), topology.Err}}
	if topology.Kind == pgfx.TopologyUnknown {
		rows[0] = row{"topology", "not followed", "the host is no endpoint of RDS"}
	}
	for _, instance := range topology.Instances {
		role := "reader"
		if instance.Writer {
			role = "writer"
		}
		rows = append(rows, row{"instance " + instance.ID, role, fmt.Sprintf("%s, lag %v", instance.Host, instance.Lag)})
	}
	found, err := db.Pool().Query(ctx, `select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = 'rds_tools' or p.proname like 'aurora%' or p.proname like '%blue_green%' order by 1`)
	if err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	functions, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	return append(rows, row{"functions of AWS", strconv.Itoa(len(functions)), strings.Join(functions, " ")}), nil
}

// checkSlots reports the connection slots of the server.
func checkSlots(ctx context.Context, db *pgfx.DB) ([]row, error) {
	var limit, reserved, used, own int
	err := db.Pool().QueryRow(ctx, `select current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int
			+ coalesce(current_setting('rds.rds_superuser_reserved_connections', true), '0')::int
			+ coalesce(current_setting('reserved_connections', true), '0')::int,
		(select count(*) from pg_stat_activity where backend_type = 'client backend'),
		(select count(*) from pg_stat_activity where application_name like 'rdscheck%')`).Scan(&limit, &reserved, &used, &own)
	if err != nil {
		return nil, fmt.Errorf("count connections: %w", err)
	}
	available := limit - reserved
	const share = 0.8
	budget := strconv.Itoa(int(share * float64(available)))
	return []row{
		{"connection slots", fmt.Sprintf("%d of %d in use", used-own, available), fmt.Sprintf("%d more are reserved", reserved)},
		{"budget for all pools", budget, "80 % of the slots: instances × (MaxConns + MaxOverflow + 2)"},
	}, nil
}
