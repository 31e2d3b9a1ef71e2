// Rediscutover moves a live store from Redis to PostgreSQL.
//
// Without arguments it starts both servers, fills Redis, lets writers and readers work, and takes the cutover through all phases. In the
// end it compares PostgreSQL with every write that was acknowledged:
//
//	go run ./examples/rediscutover
//
// With -manual it takes no step. Take them from a second terminal:
//
//	go run ./examples/rediscutover plan|status|backfill|verify|repair|advance|rollback PHASE
//
// These commands connect to the servers of the running example, or to those in REDIS_URL and DATABASE_URL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	keys    int
	workers int
	manual  bool
	force   bool
	json    bool
}

func main() {
	var o options
	flag.IntVar(&o.keys, "keys", 20_000, "number of keys in Redis")
	flag.IntVar(&o.workers, "workers", 4, "number of goroutines that write and read")
	flag.BoolVar(&o.manual, "manual", false, "take no step; use the commands in another terminal")
	flag.BoolVar(&o.force, "force", false, "advance although gates are not passed that wait for evidence")
	flag.BoolVar(&o.json, "json", false, "print plan and status as JSON")
	flag.Usage = func() {
		out := flag.CommandLine.Output()
		_, _ = fmt.Fprintln(out, "rediscutover [flags] [plan | status | backfill | verify | repair | advance | rollback PHASE]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs the example, or a command.
func run(ctx context.Context, o options, args []string) (err error) {
	if len(args) > 0 {
		return runCommand(ctx, o, args)
	}
	servers, err := startServers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	s, err := open(ctx, servers.redisURL, servers.databaseURL)
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, s.close(stopCtx))
	}()
	fmt.Printf("Redis and PostgreSQL are running. Filling Redis with %d keys.\n", o.keys)
	if err := fill(ctx, s.client, o.keys); err != nil {
		return err
	}
	if err := s.mover.Start(ctx); err != nil {
		return err
	}
	load := startTraffic(ctx, s.mover.Store(), o)
	defer load.stop()
	v := newView(os.Stdout)
	if o.manual {
		v.printf("serving %d writers and readers. In a second terminal: go run ./examples/rediscutover status", o.workers)
		v.watch(ctx, s.mover, load)
		return nil
	}
	watched, endWatch := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.watch(watched, s.mover, load)
	}()
	err = walk(ctx, s, v)
	endWatch()
	<-done
	if err != nil {
		return err
	}
	load.stop()
	return audit(ctx, s, load, v)
}
