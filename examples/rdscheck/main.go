// Command rdscheck connects to a database and prints a table: encryption and login, latency, topology, connection slots and
// parameters. It compares the parameters with the checklist in docs/rds-aurora.md. It only reads, unless --watch is set.
//
//	rdscheck [--iam | --dsql | --secret ID] [--watch] [URL]
//
// Without a URL the address comes from the DATABASE_… variables, or from the secret.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/awsauth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run checks the database that the arguments name. With --watch it goes on until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("rdscheck", flag.ContinueOnError)
	flags.SetOutput(out)
	iam := flags.Bool("iam", false, "log in with an IAM token")
	dsql := flags.Bool("dsql", false, "log in to Aurora DSQL")
	secret := flags.String("secret", "", "log in with this secret of Secrets Manager: its name or ARN")
	region := flags.String("region", "", "AWS region, if the host name or the ARN does not name it")
	watching := flags.Bool("watch", false, "afterwards write a row every 50 ms to the table rdscheck_watch, and print the gaps")
	verbose := flags.Bool("verbose", false, "print the library's log to standard error")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var options []pgfx.Option
	switch {
	case *iam:
		options = append(options, awsauth.IAM(awsauth.WithRegion(*region)))
	case *dsql:
		options = append(options, awsauth.DSQL(awsauth.WithRegion(*region)))
	case *secret != "":
		options = append(options, awsauth.SecretsManager(*secret, awsauth.WithRegion(*region)))
	}
	if *verbose {
		logger, err := zap.NewDevelopment()
		if err != nil {
			return err
		}
		options = append(options, pgfx.WithLogger(logger))
	}
	db, err := rdsfx.Open(pgfx.Config{URL: flags.Arg(0), ApplicationName: "rdscheck"}, rdsfx.WithPool(options...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(context.WithoutCancel(ctx))) }()
	if err := db.Start(ctx); err != nil {
		return err
	}
	if err := printTable(out, checkAll(ctx, db.DB)); err != nil || !*watching {
		return err
	}
	return watch(ctx, db, out, 50*time.Millisecond) //nolint:mnd // documented in the flag
}

// row is one line of the table.
type row struct{ check, value, note string }

func printTable(out io.Writer, rows []row) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) //nolint:mnd // two spaces between columns
	_, _ = fmt.Fprintln(table, "CHECK\tVALUE\tNOTE")
	for _, r := range rows {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", r.check, r.value, r.note)
	}
	return table.Flush()
}
