package telemetry

import (
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const schemaURL = semconv.SchemaURL

const defaultPort = 5432

// target has the attributes of a database.
type target struct {
	pool      attribute.KeyValue   // the name of the pool, which every metric has
	database  []attribute.KeyValue // identify the database in spans and in metrics of operations
	maxIdle   int64
	minIdle   int64
	namespace string
}

// newTarget reads the attributes from the configuration of the pool. db.namespace is the database with the first schema of the
// configured search path. Later changes of a session's search path are not followed.
func newTarget(db *pgfx.DB, poolName string) target {
	pool := db.Pool().Config()
	conn := pool.ConnConfig
	t := target{namespace: conn.Database, maxIdle: int64(pool.MaxConns) - int64(db.Config().Pool.MaxOverflow), minIdle: int64(pool.MinConns)}
	if schema := firstSchema(conn.RuntimeParams["search_path"]); schema != "" {
		t.namespace += "|" + schema
	}
	t.database = []attribute.KeyValue{semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(t.namespace), semconv.ServerAddress(conn.Host)}
	if conn.Port != defaultPort && !strings.HasPrefix(conn.Host, "/") {
		t.database = append(t.database, semconv.ServerPort(int(conn.Port)))
	}
	if poolName == "" {
		poolName = db.Name()
	}
	if poolName == "" { // as the conventions recommend
		poolName = net.JoinHostPort(conn.Host, strconv.Itoa(int(conn.Port))) + "/" + t.namespace
	}
	t.pool = semconv.DBClientConnectionPoolName(poolName)
	return t
}

// firstSchema returns the first schema of a search path, "" if that depends on the user.
func firstSchema(searchPath string) string {
	first, _, _ := strings.Cut(searchPath, ",")
	first = strings.Trim(strings.TrimSpace(first), `"`)
	if first == "$user" {
		return ""
	}
	return first
}
