package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rdsfx-go/rdsfx/examples/recipes"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type method func(ctx context.Context, sku string) error

// serve starts a gRPC server with the methods of a service, and returns a function that calls one of them.
func serve(t *testing.T, interceptor grpc.UnaryServerInterceptor, methods map[string]method) func(method, sku string) error {
	t.Helper()
	service := &grpc.ServiceDesc{ServiceName: "products"}
	for name, run := range methods {
		service.Methods = append(service.Methods, grpc.MethodDesc{MethodName: name, Handler: func(
			srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
		) (any, error) {
			sku := new(wrapperspb.StringValue)
			if err := decode(sku); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/products/" + name}
			return intercept(ctx, sku, info, func(ctx context.Context, _ any) (any, error) { return sku, run(ctx, sku.GetValue()) })
		}})
	}
	server, listener := grpc.NewServer(grpc.UnaryInterceptor(interceptor)), bufconn.Listen(1<<16)
	server.RegisterService(service, nil)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	client, err := grpc.NewClient("passthrough:products", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, client.Close())
		server.Stop()
		assert.NoError(t, <-done)
	})
	return func(method, sku string) error {
		return client.Invoke(t.Context(), "/products/"+method, wrapperspb.String(sku), new(wrapperspb.StringValue))
	}
}

func TestInTransaction_MapsErrorsAndRollsBack(t *testing.T) {
	t.Parallel()
	var (
		products *repo.Repository[recipes.Product, string]
		tx       *txn.Manager
		monitor  *health.Monitor
	)
	proxy := faults.NewProxy(t, fxtest.URL(t, fxtest.SQL(recipes.ProductsTable)))
	fxtest.New(t, fxtest.At(proxy.URL()), fxtest.Fx(repo.Provide[recipes.Product, string]("products"), fx.Populate(&products, &tx, &monitor)))
	add := func(ctx context.Context, sku string) error {
		return products.Create(ctx, &recipes.Product{SKU: sku, Name: "Key"})
	}
	inTransaction := map[string][]txn.Option{"/products/AddAll": {}, "/products/Serializable": {txn.Serializable()}}
	call := serve(t, recipes.InTransaction(tx, inTransaction),
		map[string]method{
			"Add": add,
			"Get": func(ctx context.Context, sku string) error { _, err := products.Get(ctx, sku); return err },
			"AddAll": func(ctx context.Context, sku string) error {
				if _, ok := tx.Tx(ctx); !ok {
					return errors.New("no transaction")
				}
				if err := add(ctx, sku); err != nil {
					return err
				}
				return status.Error(codes.ResourceExhausted, "too many products")
			},
			"Serializable": func(ctx context.Context, sku string) error {
				var n int
				if err := tx.QueryRow(ctx, "select count(*) from products").Scan(&n); err != nil {
					return err
				}
				other := func(ctx context.Context) error {
					if err := tx.QueryRow(ctx, "select count(*) from products").Scan(&n); err != nil {
						return err
					}
					return add(ctx, sku+" of another transaction")
				}
				if err := tx.Do(ctx, other, txn.RequiresNew(), txn.Serializable()); err != nil {
					return err
				}
				return add(ctx, sku)
			},
			"Slow": func(ctx context.Context, _ string) error {
				ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				_, err := tx.Exec(ctx, "select pg_sleep(60)")
				return err
			},
			"Broken": func(ctx context.Context, _ string) error { _, err := tx.Exec(ctx, "select 1/0"); return err },
		})
	require.NoError(t, call("Add", "kb"))
	for _, test := range []struct {
		method, sku string
		want        codes.Code
	}{
		{"Get", "kb", codes.OK},
		{"Add", "kb", codes.AlreadyExists},
		{"Add", "", codes.InvalidArgument},
		{"Get", "ms", codes.NotFound},
		{"AddAll", "ms", codes.ResourceExhausted}, // of the handler
		{"Get", "ms", codes.NotFound},             // it was rolled back
		{"Serializable", "tb", codes.Aborted},
		{"Slow", "", codes.DeadlineExceeded},
		{"Broken", "", codes.Internal},
	} {
		err := call(test.method, test.sku)
		assert.Equal(t, test.want, status.Code(err), "%s %q: %v", test.method, test.sku, err)
		assert.NotContains(t, fmt.Sprint(err), "products_", "no details of the database")
	}

	proxy.RefuseNew()
	proxy.ResetConnections()
	require.Eventually(t, func() bool { return !monitor.IsHealthy() }, 30*time.Second, time.Millisecond)
	assert.Equal(t, codes.Unavailable, status.Code(call("Get", "kb")))
	proxy.Heal()
	require.NoError(t, monitor.AwaitUp(t.Context()))
}

func TestCodeOf_OtherErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want codes.Code
	}{
		{&repo.ConstraintError{Kind: repo.KindForeignKey}, codes.FailedPrecondition},
		{&repo.ConstraintError{Kind: repo.KindExclusion}, codes.FailedPrecondition},
		{repo.ErrDeleted, codes.FailedPrecondition},
		{repo.ErrSuppressed, codes.FailedPrecondition},
		{repo.ErrCursor, codes.InvalidArgument},
		{&repo.StaleError{}, codes.Aborted},
		{context.Canceled, codes.Canceled},
		// Clients must not repeat these.
		{fmt.Errorf("%w: %w", txn.ErrOutcomeUnknown, pgfx.ErrConnLost), codes.Internal},
		{fmt.Errorf("%w: %w", txn.ErrOutcomeUnknown, &pgconn.PgError{Code: "40001"}), codes.Internal},
	} {
		assert.Equal(t, test.want, recipes.CodeOf(fmt.Errorf("add: %w", test.err)), "%v", test.err)
	}
}
