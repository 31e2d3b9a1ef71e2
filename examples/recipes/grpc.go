package recipes

import (
	"context"
	"errors"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: grpc interceptor

// InTransaction runs the named methods in a transaction, each with its options, and returns errors of all methods as gRPC statuses.
func InTransaction(tx *txn.Manager, methods map[string][]txn.Option) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if opts, ok := methods[info.FullMethod]; ok {
			resp, err = txn.DoValue(ctx, tx, func(ctx context.Context) (any, error) { return handler(ctx, req) }, opts...)
		} else {
			resp, err = handler(ctx, req)
		}
		if _, ok := status.FromError(err); ok { // the handler's, or no error
			return resp, err
		}
		return nil, status.Error(CodeOf(err), "database work failed") // no details, because they may name tables
	}
}

// docs: end

// docs: grpc codes

// CodeOf returns the gRPC code of a call whose database work failed with err.
func CodeOf(err error) codes.Code {
	violation, _ := errors.AsType[*repo.ConstraintError](err)
	server, _ := errors.AsType[*pgconn.PgError](err)
	_, committed := errors.AsType[*txn.CommittedError](err)
	switch {
	case committed, errors.Is(err, txn.ErrOutcomeUnknown): // first, because they may wrap any other error
		return codes.Internal
	case violation != nil && violation.Kind == repo.KindUnique:
		return codes.AlreadyExists
	case violation != nil && (violation.Kind == repo.KindForeignKey || violation.Kind == repo.KindExclusion),
		errors.Is(err, repo.ErrDeleted), errors.Is(err, repo.ErrSuppressed):
		return codes.FailedPrecondition
	case violation != nil, errors.Is(err, repo.ErrInvalid), errors.Is(err, repo.ErrValue), errors.Is(err, repo.ErrCursor):
		return codes.InvalidArgument
	case errors.Is(err, repo.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, repo.ErrStale), server != nil && (server.Code == "40001" || server.Code == "40P01"):
		return codes.Aborted
	}
	switch txn.ErrorStatus(err) {
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	case txn.StatusClientClosedRequest:
		return codes.Canceled
	}
	return codes.Internal
}

// docs: end
