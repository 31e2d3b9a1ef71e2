package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// state is the state of a key.
type state struct {
	value   Value
	found   bool
	expires time.Time // zero for none
	digest  string    // changes with value and expiry; only if it was requested
}

// read returns the state of each key. It sends all keys in one round trip for each server. args are those of the script.
func read(ctx context.Context, client redis.UniversalClient, keys []string, args ...any) ([]state, error) {
	replies, err := readAll(ctx, client, keys, readScript.EvalSha, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") { // the server has restarted
		replies, err = readAll(ctx, client, keys, readScript.Eval, args)
	}
	if err != nil {
		return nil, err
	}
	states := make([]state, len(keys))
	for i, key := range keys {
		if states[i], err = parseState(replies[i]); err != nil {
			return nil, &cutover.KeyError{Key: key, Cause: err}
		}
	}
	return states, nil
}

type runScript func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func readAll(ctx context.Context, client redis.UniversalClient, keys []string, run runScript, args []any) ([][]any, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipeline := client.Pipeline()
	commands := make([]*redis.Cmd, len(keys))
	for i, key := range keys {
		commands[i] = run(ctx, pipeline, []string{key}, args...)
	}
	_, _ = pipeline.Exec(ctx) // each command has its error
	replies := make([][]any, len(keys))
	for i, command := range commands {
		var err error
		if replies[i], err = command.Slice(); err != nil {
			return nil, fmt.Errorf("redisstore: read: %w", err)
		}
	}
	return replies, nil
}

// parseState converts a reply of the script that reads.
func parseState(reply []any) (st state, err error) {
	if len(reply) == 0 {
		st.digest = missing
		return st, nil
	}
	if len(reply) < 2 {
		return st, errors.New("unexpected reply")
	}
	kind, ok := reply[0].(string)
	expiry, ok2 := reply[1].(int64)
	if !ok || !ok2 {
		return st, errors.New("unexpected reply")
	}
	st.found = true
	if expiry >= 0 {
		st.expires = time.UnixMilli(expiry)
	}
	if len(reply) == 2 { // the script does not read this type
		st.value.Type = Type(kind)
		return st, nil
	}
	if len(reply) > 3 {
		st.digest, _ = reply[3].(string)
	}
	st.value, err = parseValue(Type(kind), reply[2])
	return st, err
}
