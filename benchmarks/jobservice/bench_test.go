package jobservice_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

var update = flag.Bool("update", false, "write the tables into the README of examples/jobservice")

// BenchmarkServices prints how the services bear load and an outage. With -update it also writes the tables into the README of the
// job service:
//
//	make bench-jobservice
func BenchmarkServices(b *testing.B) {
	server := faults.NewServer(b)
	contenders := startAll(b, server.URL())
	seed(b, server.URL(), contenders, rows)
	var version string
	conn, err := pgx.Connect(b.Context(), server.URL())
	require.NoError(b, err)
	version = conn.PgConn().ParameterStatus("server_version")
	require.NoError(b, conn.Close(b.Context()))

	const rounds, turn = 3, time.Second
	var text string
	for b.Loop() {
		samples := takeTurns(b.Context(), contenders, rounds, turn)
		outages, killed, accepts := strike(b, server, contenders)
		text = fmt.Sprintf("%s, %s/%s, %d processors, PostgreSQL %s. Each service has %d connections. %d clients send requests without a pause, %d × %v for each row.\n\n",
			runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), version, poolSize, clients, rounds, turn) +
			table(contenders, samples) +
			fmt.Sprintf("\nAn outage: the server is killed (-9) and starts again after %v, under %d clients of each service that pause for %v.\n\n", outageLasts, outageClients, pause) +
			outageTable(outages, killed, accepts)
		for _, o := range outages {
			if o.missing != 0 {
				b.Errorf("%s: %d acknowledged jobs are missing", o.contender.name, o.missing)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	_, _ = fmt.Fprint(os.Stdout, text)
	if *update {
		require.NoError(b, measure.Replace("../../examples/jobservice/README.md", "load", text))
	}
}
