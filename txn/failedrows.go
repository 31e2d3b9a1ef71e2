package txn

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// failedRows are rows that hold only an error. As a row, their Scan returns it.
type failedRows struct{ err error }

var (
	_ pgx.Rows = failedRows{}
	_ pgx.Row  = failedRows{}
)

func (failedRows) Close() {}

func (r failedRows) Err() error { return r.err }

func (failedRows) Next() bool { return false }

func (r failedRows) Scan(...any) error { return r.err }

func (r failedRows) Values() ([]any, error) { return nil, r.err }

func (failedRows) RawValues() [][]byte { return nil }

func (failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }

func (failedRows) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }

func (failedRows) Conn() *pgx.Conn { return nil }

func (failedRows) TypeMap() *pgtype.Map { return nil }
