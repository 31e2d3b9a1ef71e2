package health_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// recoveryFaults returns the rows of the table. Each fault lasts longer than both pools need to notice it. With the default
// Health.Timeout of 5 s, a server that does not respond is down after 10 s.
func recoveryFaults() []fault {
	const (
		short   = 3 * time.Second
		long    = 15 * time.Second
		patient = 5 * time.Second
		quick   = time.Second
	)
	insert := statement("insert into entries values (1)")
	list := []fault{
		{name: "half-open, statements in flight", deadline: patient, prepare: halfOpen},
		{name: "half-open, pool idle", deadline: patient, idle: true, prepare: halfOpen},
		{
			name: "half-open, 12 transactions with row locks", deadline: patient, conns: 12, callers: 24, work: updateRow,
			prepare: halfOpenWithRows,
		},
		{name: "black hole, healed", lasts: long, deadline: quick, prepare: blackHole},
		{name: "killed (-9), restarted", lasts: quick, deadline: patient, prepare: killed},
		{name: "killed (-9), restarted", lasts: short, deadline: patient, prepare: killed},
		{name: "frozen, continued", lasts: long, deadline: quick, prepare: frozen},
		{name: "writer demoted, standby promoted", lasts: short, deadline: patient, work: insert, prepare: demoted},
		{name: "primary lost, standby promoted", lasts: short, deadline: patient, work: insert, prepare: primaryLost},
		{name: "Aurora-like failover, DNS 20 s late", lasts: short, deadline: patient, work: insert, prepare: auroraFailover},
		{name: "Blue/Green switchover, DNS 37 s late", lasts: short, deadline: patient, work: insert, prepare: switchover},
		{name: "accepts and kills", lasts: patient, deadline: patient, prepare: acceptsAndKills},
		{name: "server full (53300)", lasts: patient, deadline: patient, prepare: serverFull},
		{name: "pool exhausted", lasts: short, deadline: quick, prepare: poolExhausted},
		{name: "password rotated", lasts: patient, deadline: patient, prepare: passwordRotated},
		{name: "100 applications reconnect", lasts: short, deadline: patient, apps: 100, prepare: manyReconnect},
		{
			name: "1000 connections of 50 applications reconnect", lasts: short, deadline: patient, apps: 50, conns: 20,
			prepare: manyReconnect,
		},
	}
	for i := range list {
		if list[i].work == nil {
			list[i].work = statement("select 1")
		}
	}
	return list
}

func statement(sql string) func(context.Context, *pgxpool.Pool) error {
	return func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, sql)
		return err
	}
}

const (
	lockedRows = 20
	thinkTime  = 20 * time.Millisecond
)

// updateRow is a transaction that holds the lock of a random row for the think time.
func updateRow(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "update rows set n = n + 1 where id = $1", rand.N(lockedRows)); err != nil {
			return err
		}
		time.Sleep(thinkTime)
		_, err := tx.Exec(ctx, "select 1")
		return err
	})
}

func halfOpenWithRows(b *testing.B) outage {
	b.Helper()
	server := faults.NewServer(b)
	execute(b, server.URL(), fmt.Sprintf("create table rows as select id, 0 as n from generate_series(0, %d) as id", lockedRows-1))
	proxy := faults.NewProxy(b, server.URL())
	return outage{url: proxy.URL(), begin: func([]*pgxpool.Pool) { proxy.BlackHole() }}
}

func halfOpen(b *testing.B) outage {
	b.Helper()
	proxy := faults.NewProxy(b, faults.NewServer(b).URL())
	return outage{url: proxy.URL(), begin: func([]*pgxpool.Pool) { proxy.BlackHole() }}
}

func blackHole(b *testing.B) outage {
	b.Helper()
	proxy := faults.NewProxy(b, faults.NewServer(b).URL())
	return outage{url: proxy.URL(), begin: func([]*pgxpool.Pool) { proxy.BlackHoleAll() }, end: proxy.Heal}
}

func killed(b *testing.B) outage {
	b.Helper()
	server := faults.NewServer(b)
	return outage{url: server.URL(), begin: func([]*pgxpool.Pool) { server.Kill() }, end: server.Restart}
}

func frozen(b *testing.B) outage {
	b.Helper()
	server := faults.NewServer(b)
	return outage{url: server.URL(), begin: func([]*pgxpool.Pool) { server.Freeze() }, end: server.Thaw}
}

// clustered returns an outage of a cluster whose name is moved to the standby when that is promoted.
func clustered(b *testing.B, begin func(*faults.Cluster)) outage {
	b.Helper()
	cluster := faults.NewCluster(b)
	execute(b, cluster.Primary().URL(), "create table entries (n int)")
	resolver := cluster.Resolver()
	return outage{
		url: resolver.URL(), connect: resolver.BeforeConnect,
		begin: func([]*pgxpool.Pool) { begin(cluster) },
		end: func() {
			resolver.Point(cluster.Standby().URL())
			cluster.Promote()
		},
	}
}

func demoted(b *testing.B) outage {
	b.Helper()
	return clustered(b, (*faults.Cluster).Demote)
}

func primaryLost(b *testing.B) outage {
	b.Helper()
	return clustered(b, (*faults.Cluster).KillPrimary)
}

// auroraFailover returns an outage of a simulated cluster whose endpoint leads to the old writer for 20 s after the promotion. The
// old writer comes back as a reader at once, as with Aurora.
func auroraFailover(b *testing.B) outage {
	b.Helper()
	cluster := faults.NewAurora(b, faults.AuroraConfig{})
	execute(b, cluster.Server("app-1").URL(), "create table entries (n int)")
	cluster.SetDNSLag(20 * time.Second)
	var rejoining sync.WaitGroup
	b.Cleanup(rejoining.Wait)
	return outage{
		url: cluster.URL(), connect: cluster.BeforeConnect, opts: []pgfx.Option{aurora.Automatic()},
		begin: func([]*pgxpool.Pool) { cluster.Stop("app-1") },
		end: func() {
			cluster.Promote("app-2")
			rejoining.Go(func() { cluster.Rejoin("app-1") })
		},
	}
}

// switchover returns the active phase of a simulated Blue/Green switchover, after which the endpoint leads to the blue side for 37 s.
func switchover(b *testing.B) outage {
	b.Helper()
	cluster := faults.NewAurora(b, faults.AuroraConfig{})
	execute(b, cluster.Server("app-1").URL(), "create table entries (n int)")
	green := cluster.NewGreen()
	cluster.SetDNSLag(37 * time.Second)
	return outage{
		url: cluster.URL(), connect: cluster.BeforeConnect, opts: []pgfx.Option{aurora.Automatic()},
		begin: func([]*pgxpool.Pool) {
			green.Initiate()
			time.Sleep(recoveryIdle) // the monitors read the status every second
			green.Begin()
		},
		end: func() {
			green.Finish()
			green.Rename()
		},
	}
}

func acceptsAndKills(b *testing.B) outage {
	b.Helper()
	proxy := faults.NewProxy(b, faults.NewServer(b).URL())
	return outage{
		url: proxy.URL(), end: proxy.Heal,
		begin: func([]*pgxpool.Pool) {
			proxy.AcceptThenReset(faults.AfterLogin)
			proxy.ResetConnections()
		},
	}
}

func serverFull(b *testing.B) outage {
	b.Helper()
	server := faults.NewServer(b, embedded.Setting("max_connections", "20"))
	proxy := faults.NewProxy(b, server.URL())
	var release []func()
	return outage{
		url: proxy.URL(),
		begin: func([]*pgxpool.Pool) {
			proxy.RefuseNew()
			proxy.ResetConnections()
			server.TerminateBackends() // it returns when they are gone, so that none frees a slot later
			release = append(release, server.FillConnections())
			proxy.Heal()
		},
		end: func() {
			for _, free := range release {
				free()
			}
		},
	}
}

func poolExhausted(b *testing.B) outage {
	b.Helper()
	var held []*pgxpool.Conn
	return outage{
		url: fxtest.URL(b),
		begin: func(pools []*pgxpool.Pool) {
			for _, pool := range pools {
				held = append(held, hold(b, pool, recoveryConns)...)
			}
		},
		end: func() {
			for _, conn := range held {
				conn.Release()
			}
		},
	}
}

// passwordRotated returns an outage in which the application gets the new password only at the end.
func passwordRotated(b *testing.B) outage {
	b.Helper()
	server := faults.NewServer(b)
	var (
		rotated string
		current atomic.Pointer[string]
	)
	return outage{
		url: server.URL(),
		connect: func(_ context.Context, config *pgx.ConnConfig) error {
			if password := current.Load(); password != nil {
				config.Password = *password
			}
			return nil
		},
		begin: func([]*pgxpool.Pool) {
			rotated = server.RotatePassword()
			server.TerminateBackends()
		},
		end: func() { current.Store(&rotated) },
	}
}

func manyReconnect(b *testing.B) outage {
	b.Helper()
	proxy := faults.NewProxy(b, faults.NewServer(b, embedded.Setting("max_connections", "2200")).URL())
	return outage{
		url: proxy.URL(), end: proxy.Heal,
		begin: func([]*pgxpool.Pool) {
			proxy.RefuseNew()
			proxy.ResetConnections()
		},
	}
}
