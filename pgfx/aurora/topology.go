package aurora

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Topology returns an option that makes a DB follow its cluster. It replaces another option of this package. An error of the
// configuration fails [pgfx.DB.Start]. If the topology cannot be read, a warning is logged and connections follow DNS.
//
// Behind a transaction pooler (pgfx.Config.Pooler) it does nothing, because the pooler chooses the server.
func Topology(config Config) pgfx.Option {
	return pgfx.WithTopology(func(ctx context.Context, db *pgfx.DB) error {
		if err := config.validate(); err != nil {
			return err
		}
		if db.Config().Pooler == pgfx.PoolerTransaction {
			return nil
		}
		follow(ctx, db, config.withDefaults())
		return nil
	})
}

// Automatic is [Topology] with the zero Config for a DB whose host is an endpoint of Aurora or RDS, and does nothing for others.
func Automatic() pgfx.Option {
	return pgfx.WithTopology(func(ctx context.Context, db *pgfx.DB) error {
		isRDS := func(a pgfx.Address) bool { return parseEndpoint(a.Host).followsCluster() }
		if db.Config().Pooler != pgfx.PoolerTransaction && slices.ContainsFunc(db.Internals().Addresses(), isRDS) {
			follow(ctx, db, Config{}.withDefaults())
		}
		return nil
	})
}

// Off returns an option that disables [Automatic].
func Off() pgfx.Option { return pgfx.WithTopology(nil) }

// follow finds out the cluster and joins its monitor.
func follow(ctx context.Context, db *pgfx.DB, config Config) {
	m := newMember(db, config)
	if behindProxy(m) {
		return
	}
	found, err := detect(ctx, db.Pool())
	var first view
	if err == nil && found.kind != pgfx.TopologyPlain {
		first, err = m.read(ctx, db.Pool(), found.kind, found.blueGreen)
	}
	switch {
	case err != nil:
		m.logger.Warn("topology not available; connections follow DNS", zap.Error(err))
	case found.kind == pgfx.TopologyPlain:
		db.Internals().PublishTopology(pgfx.Topology{Kind: found.kind})
	default:
		join(m, found, first)
	}
}

// behindProxy reports whether all hosts are such that choose the server themselves.
func behindProxy(m *member) bool {
	return !slices.ContainsFunc(m.addresses, func(a pgfx.Address) bool { return m.config.endpointOf(a.Host).role != roleProxy })
}
