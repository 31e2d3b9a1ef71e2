package rowplan

import (
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Bind makes a plan without a connection.
func (m *Model) Bind(types *pgtype.Map, descriptions []pgconn.FieldDescription) *Plan {
	return m.newPlan(types, descriptions)
}

// Fits reports whether the plan may be used.
func (p *Plan) Fits(types *pgtype.Map, descriptions []pgconn.FieldDescription) bool {
	return p.fits(types, descriptions)
}

const (
	MaxPlans  = maxPlans
	MaxShared = maxShared
	MaxBlock  = maxBlock
)

// AppendValue is what is done with a value that no encoder takes.
func AppendValue(m *pgtype.Map, oid uint32, value any) ([]byte, error) {
	return appendValue(m, nil, oid, value)
}
