package txn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/testpgbouncer"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// makeNotes creates a table in which a tenant sees only its own rows, and the role of an application that is bound by this policy.
const makeNotes = `do $$ begin
		create role rdsfx_tenants login password 'tenants';
	exception when duplicate_object or unique_violation then null;
	end $$;
	create table notes (tenant text not null, body text not null);
	alter table notes enable row level security;
	create policy own_rows on notes using (tenant = nullif(current_setting('app.tenant', true), ''));
	grant select, insert on notes to rdsfx_tenants;
	grant create on schema public to rdsfx_tenants;
	insert into notes values ('ann', 'seed'), ('bob', 'seed')`

// tenantsURL returns the URL with which the application logs in.
func tenantsURL(t *testing.T) string {
	t.Helper()
	address := fxtest.URL(t)
	admin, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), makeNotes)
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	u, err := url.Parse(address)
	require.NoError(t, err)
	query := u.Query()
	query.Del("user")
	u.RawQuery, u.User = query.Encode(), url.UserPassword("rdsfx_tenants", "tenants")
	return u.String()
}

// tenantsOf returns the tenants whose rows are visible to a statement with ctx.
func tenantsOf(ctx context.Context, m *txn.Manager) (tenants []string, err error) {
	err = m.QueryRow(ctx, "select coalesce(array_agg(distinct tenant), '{}') from notes").Scan(&tenants)
	return tenants, err
}

func TestSet_TenantSeesOwnRows(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]txn.CommitResolution{"witness": txn.ByWitness, "marker": txn.ByMarker, "unresolved": txn.Unresolved} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := managerOf(t, openDB(t, tenantsURL(t), maxConns(1)), txn.WithDefaults(txn.ResolveCommit(by)))
			requireTenants(t, m)
		})
	}
}

// requireTenants requires that a transaction sees the rows of its tenant, and that the next user of the connection sees none.
func requireTenants(t *testing.T, m *txn.Manager) {
	t.Helper()
	ends := map[string]error{"commit": nil, "rollback": errTest}
	for range 2 {
		for end, err := range ends {
			for _, tenant := range []string{"ann", "bob", "eve' or true --"} {
				require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
					if _, err := m.Exec(ctx, "insert into notes values ($1, 'new')", tenant); err != nil {
						return fmt.Errorf("insert: %w", err)
					}
					visible, queryErr := tenantsOf(ctx, m)
					assert.Equal(t, []string{tenant}, visible)
					return errors.Join(queryErr, err)
				}, txn.Set("app.tenant", tenant)), err, end)
				visible, err := tenantsOf(t.Context(), m)
				require.NoError(t, err)
				assert.Empty(t, visible, "after %s", end)
				require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
					visible, err := tenantsOf(ctx, m)
					assert.Empty(t, visible, "in the next transaction")
					return err
				}))
			}
		}
	}
	err := m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "insert into notes values ('bob', 'of another tenant')")
		return err
	}, txn.Set("app.tenant", "ann"))
	require.ErrorContains(t, err, "row-level security")
}

func TestSet_LeaksNothingThroughTransactionPooler(t *testing.T) {
	t.Parallel()
	address := tenantsURL(t)
	bouncer, err := testpgbouncer.Start(t.Context(), address, "transaction", 1)
	if errors.Is(err, testpgbouncer.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Stop()) })
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	const tenants = 4
	pooled := func(c *pgfx.Config) { c.Pooler, c.Pool.MaxConns = pgfx.PoolerTransaction, tenants+1 }
	m := managerOf(t, openDB(t, bouncer.URL(config.Database), pooled), txn.WithDefaults(txn.ResolveCommit(txn.ByMarker)))
	requireTenants(t, m)
	var group sync.WaitGroup
	for i := range tenants { // which share one session of the server
		group.Go(func() {
			tenant := fmt.Sprintf("tenant %d", i)
			for range 10 {
				errs := make([]error, 2)
				errs[0] = m.Do(t.Context(), func(ctx context.Context) error {
					if _, err := m.Exec(ctx, "insert into notes values ($1, 'new')", tenant); err != nil {
						return err
					}
					visible, err := tenantsOf(ctx, m)
					assert.Equal(t, []string{tenant}, visible)
					return err
				}, txn.Set("app.tenant", tenant))
				visible, err := tenantsOf(t.Context(), m)
				errs[1] = err
				assert.Empty(t, visible)
				assert.NoError(t, errors.Join(errs...))
			}
		})
	}
	group.Wait()
}

func TestSet_AppliesLatestValue(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithDefaults(txn.Set("app.tenant", "default"), txn.Set("App.Region", "eu")))
	var got string
	read := func(ctx context.Context) error {
		return m.QueryRow(ctx, "select concat_ws(' ', current_setting('app.tenant'), current_setting('app.region'), "+
			"current_setting('search_path'))").Scan(&got)
	}
	require.NoError(t, m.Do(t.Context(), read,
		txn.Set("app.tenant", "first"), txn.Set("APP.tenant", "ann"), txn.Set("search_path", "pg_catalog")))
	assert.Equal(t, "ann eu pg_catalog", got)
	require.NoError(t, m.Do(t.Context(), read))
	assert.Equal(t, `default eu "$user", public`, got)
	require.NoError(t, m.DoBatch(t.Context(), func(batch *pgx.Batch) { batch.Queue("select current_setting('app.tenant')") },
		func(results pgx.BatchResults) error { return results.QueryRow().Scan(&got) }))
	assert.Equal(t, "default", got)
}

func TestSet_RefusesBadSettings(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, tt := range []struct{ name, value, want string }{
		{"", "", "not the name of a setting"},
		{"app.tenant; drop table entries", "", "not the name of a setting"},
		{"app.", "", "not the name of a setting"},
		{"1app.tenant", "", "not the name of a setting"},
		{"app.tenant", "secret\x00", "zero byte"},
		{"Statement_Timeout", "1", "use StatementTimeout"},
		{"transaction_read_only", "off", "use ReadOnly"},
		{"no_such_setting", "1", "42704"},
		{"work_mem", "a lot", "22023"},
	} {
		err := m.Do(t.Context(), neverCalled(t), txn.Set(tt.name, tt.value))
		require.ErrorContains(t, err, tt.want, tt.name)
		assert.NotContains(t, err.Error(), "secret")
	}
	require.ErrorContains(t, m.Do(t.Context(), neverCalled(t), txn.Never(), txn.Set("app.tenant", "ann")), "other options have no effect")
	require.NoError(t, m.Do(t.Context(), insertOnceIn(m)), "the connection is usable")
	assert.EqualValues(t, 1, openedConns(m.DB()))
}

func TestSet_JoinNeedsSameValue(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	nothing := func(context.Context) error { return nil }
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		for _, opt := range []txn.Option{txn.Required(), txn.Nested(), txn.Mandatory()} {
			assert.NoError(t, m.Do(ctx, nothing, opt))
			assert.NoError(t, m.Do(ctx, nothing, opt, txn.Set("APP.tenant", "ann")))
			err := m.Do(ctx, neverCalled(t), opt, txn.Set("app.tenant", "bob"))
			assert.ErrorIs(t, err, txn.ErrOptionMismatch)
			assert.ErrorContains(t, err, "value of app.tenant: running a different one")
			assert.NotContains(t, err.Error(), "ann")
			assert.NotContains(t, err.Error(), "bob")
			err = m.Do(ctx, neverCalled(t), opt, txn.Set("app.tenant", "ann"), txn.Set("app.region", "eu"))
			assert.ErrorContains(t, err, "value of app.region: running none")
		}
		return nil
	}, txn.Set("app.tenant", "ann")))
}

func TestSet_CostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, by := range []txn.CommitResolution{txn.ByWitness, txn.Unresolved} {
		trips := func(opts ...txn.Option) int {
			counter := fxtest.Statements(t, m.DB())
			nothing := func(context.Context) error { return nil }
			require.NoError(t, m.Do(t.Context(), nothing, opts...)) // prepares the statements
			counter.Reset()
			require.NoError(t, m.Do(t.Context(), nothing, opts...))
			return counter.RoundTrips()
		}
		assert.Equal(t, 2, trips(txn.ResolveCommit(by), txn.Set("app.tenant", "ann"), txn.Set("app.region", "eu")), by)
	}
}

func TestMiddleware_SetsTenantOfRequest(t *testing.T) {
	t.Parallel()
	m := managerOf(t, openDB(t, tenantsURL(t), maxConns(1)))
	errNoTenant := errors.New("no tenant")
	config := txn.HTTPConfig{
		RequestOptions: func(r *http.Request) ([]txn.Option, error) {
			tenant := r.Header.Get("X-Tenant")
			if tenant == "" {
				return nil, errNoTenant
			}
			return []txn.Option{txn.Set("app.tenant", tenant)}, nil
		},
		OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
			if assert.ErrorIs(t, err, errNoTenant) {
				w.WriteHeader(http.StatusForbidden)
			}
		},
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for tenant, status := range map[string]int{"ann": http.StatusOK, "bob": http.StatusOK, "": http.StatusForbidden} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/", http.NoBody)
			r.Header.Set("X-Tenant", tenant)
			w := serve(m, config, r, func(_ http.ResponseWriter, r *http.Request) {
				visible, err := tenantsOf(r.Context(), m)
				assert.NoError(t, err)
				assert.Equal(t, []string{tenant}, visible)
			})
			assert.Equal(t, status, w.Code)
		}
	}
}
