package txn

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// failedRows are rows that hold nothing but an error.
type failedRows struct{ err error }

var _ pgx.Rows = failedRows{}

// Close does nothing.
func (failedRows) Close() {}

// Err returns the error.
func (r failedRows) Err() error { return r.err }

// Next returns false.
func (failedRows) Next() bool { return false }

// Scan returns the error.
func (r failedRows) Scan(...any) error { return r.err }

// Values returns the error.
func (r failedRows) Values() ([]any, error) { return nil, r.err }

// RawValues returns nil.
func (failedRows) RawValues() [][]byte { return nil }

// FieldDescriptions returns nil.
func (failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }

// CommandTag returns none.
func (failedRows) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }

// Conn returns nil.
func (failedRows) Conn() *pgx.Conn { return nil }

// TypeMap returns nil.
func (failedRows) TypeMap() *pgtype.Map { return nil }

// failedRow is a row that holds nothing but an error.
type failedRow struct{ err error }

// Scan returns the error.
func (r failedRow) Scan(...any) error { return r.err }
