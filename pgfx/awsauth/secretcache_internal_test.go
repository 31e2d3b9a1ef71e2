package awsauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// fakeSecret is a secret whose reads take a second.
type fakeSecret struct {
	mu       sync.Mutex
	versions map[string]string // passwords by stage
	err      error
	reads    int
}

func (s *fakeSecret) read(ctx context.Context, stage string) (*secretValue, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.err != nil {
		return nil, s.err
	}
	password, ok := s.versions[stage]
	if !ok {
		return nil, nil //nolint:nilnil // as secretReader.read
	}
	return &secretValue{username: "app", password: password, stage: stage}, nil
}

func (s *fakeSecret) setErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeSecret) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *fakeSecret) set(stage, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[stage] = password
}

var errRefused = &pgconn.PgError{Code: "28P01"}

// connect logs in to a server that accepts one password, as secretAuth and pgx do. It reports whether a login was made.
func connect(t *testing.T, c *secretCache, accepts string) (loggedIn bool, err error) {
	t.Helper()
	value, err := c.get(t.Context())
	if err != nil {
		return false, err
	}
	if err := c.beginLogin(value.login()); err != nil {
		return false, err
	}
	if value.password != accepts {
		c.refused(value.password, errRefused)
		return true, errRefused
	}
	c.accepted(value.login())
	return true, nil
}

func newFakeCache(current string) (*secretCache, *fakeSecret) {
	s := &fakeSecret{versions: map[string]string{stageCurrent: current}}
	return newSecretCache(s.read, time.Hour, zap.NewNop()), s
}

func TestSecretCache_OneReadForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				_, err := connect(t, c, "one")
				assert.NoError(t, err)
			})
		}
		group.Wait()
		assert.Equal(t, 1, s.count())
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		other, _ := newFakeCache("one")
		_, err := other.get(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Minute)
		began := time.Now()
		_, err = other.get(t.Context())
		require.NoError(t, err)
		assert.Zero(t, time.Since(began), "the read went on without the caller")
	})
}

func TestSecretCache_LoginsWithRefusedPasswordAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("wrong")
		logins, began := 0, time.Now()
		for time.Since(began) < time.Minute {
			if loggedIn, err := connect(t, c, "right"); loggedIn {
				logins++
				require.ErrorIs(t, err, errRefused)
			} else {
				require.ErrorIs(t, err, errRefused, "its cause is the refusal")
			}
			time.Sleep(10 * time.Millisecond)
		}
		assert.InDelta(t, 20, logins, 3, "one in 3 s")
		assert.LessOrEqual(t, s.count(), 45, "two stages in 3 s")

		s.set(stageCurrent, "right")
		time.Sleep(refreshInterval)
		_, err := connect(t, c, "right")
		require.NoError(t, err)
		assert.Empty(t, c.refusals)
	})
}

func TestSecretCache_ServerAcceptsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newFakeCache("one")
		for range 3 {
			_, err := connect(t, c, "none")
			require.Error(t, err)
		}
		time.Sleep(refreshInterval)
		for range 10 { // the monitor gets the credentials without a login
			_, err := c.get(t.Context())
			require.NoError(t, err)
		}
		one := login{"app", "one"}
		require.NoError(t, c.beginLogin(one))
		require.ErrorIs(t, c.beginLogin(one), errRefused, "one of several connections that have the value")
		time.Sleep(refreshInterval)
		_, err := connect(t, c, "one")
		require.NoError(t, err)
		loggedIn, err := connect(t, c, "one")
		require.NoError(t, err)
		assert.True(t, loggedIn)
	})
}

func TestSecretCache_PendingVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		_, err := connect(t, c, "one")
		require.NoError(t, err)
		s.set(stagePending, "two")
		_, err = connect(t, c, "two")
		require.ErrorIs(t, err, errRefused)
		_, err = connect(t, c, "two")
		require.NoError(t, err, "the pending version, without a wait")

		// The rotation is given up, and the server keeps the old password: both versions take turns.
		for range 4 {
			if _, err = connect(t, c, "one"); err == nil {
				break
			}
			time.Sleep(refreshInterval)
		}
		require.NoError(t, err)
	})
}

func TestSecretCache_RefusedVersionsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		s.set(stagePending, "two")
		tried := map[string]int{}
		for range 10 { // the server has neither password yet
			loggedIn, err := connect(t, c, "none")
			require.ErrorIs(t, err, errRefused)
			if loggedIn {
				tried[c.value.password]++
			}
			time.Sleep(refreshInterval)
		}
		assert.Greater(t, tried["one"], 2)
		assert.Greater(t, tried["two"], 2)
	})
}

func TestSecretCache_RefusalOfAnotherVersionChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		_, err := connect(t, c, "one")
		require.NoError(t, err)
		assert.Nil(t, c.refused("older", errRefused), "a connection that began with the version before")
		_, err = connect(t, c, "one")
		require.NoError(t, err)
		assert.Equal(t, 1, s.count())
	})
}

func TestSecretCache_ReadFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		_, err := connect(t, c, "one")
		require.NoError(t, err)
		s.setErr(errors.New("away"))
		time.Sleep(2 * time.Hour) // older than the TTL
		for range 3 {
			_, err = connect(t, c, "one")
			require.NoError(t, err, "the last known value")
			time.Sleep(2 * time.Second)
		}
		assert.Equal(t, 3, s.count(), "one, then one in 3 s")
		_, err = connect(t, c, "two")
		require.Error(t, err)
		time.Sleep(refreshInterval)
		_, err = connect(t, c, "two") // tries the known value again
		require.Error(t, err)
		_, err = connect(t, c, "two")
		require.ErrorContains(t, err, "the secret cannot be read: away")
		require.ErrorIs(t, err, errRefused)
		s.setErr(nil)
		s.set(stageCurrent, "two")
		time.Sleep(refreshInterval)
		_, err = connect(t, c, "two")
		require.NoError(t, err)
	})
}

func TestSecretCache_TTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := newFakeCache("one")
		_, err := connect(t, c, "one")
		require.NoError(t, err)
		s.set(stageCurrent, "two")
		time.Sleep(time.Hour)
		began := time.Now()
		_, err = connect(t, c, "one")
		require.NoError(t, err)
		assert.Zero(t, time.Since(began), "the read runs in the background")
		for range 10 {
			_, err = connect(t, c, "one")
			require.NoError(t, err)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		assert.Equal(t, 2, s.count(), "one read in the background for all")
		_, err = connect(t, c, "two")
		require.NoError(t, err)
	})
}

func TestParseSecret_Forms(t *testing.T) {
	t.Parallel()
	value, err := parseSecret(`{"username":"app","password":"p","host":"h","port":"6432","dbname":"d"}`)
	require.NoError(t, err)
	assert.Equal(t, secretValue{username: "app", password: "p", host: "h", port: 6432, database: "d"}, value)
	value, err = parseSecret(`{"username":"app","password":"p"}`)
	require.NoError(t, err)
	assert.Equal(t, login{"app", "p"}, value.login())
	value, err = parseSecret("plain\n")
	require.NoError(t, err)
	assert.Equal(t, login{"", "plain"}, value.login())
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", value, &value, value), "plain")
}

func TestRegionOfHost_Endpoints(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"db.abc.eu-west-1.rds.amazonaws.com":              "eu-west-1",
		"app.cluster-abc.us-gov-west-1.rds.amazonaws.com": "us-gov-west-1",
		"app.cluster-ro-abc.eu-west-1.RDS.amazonaws.com.": "eu-west-1",
		"p.proxy-abc.ap-southeast-2.rds.amazonaws.com":    "ap-southeast-2",
		"db.abc.cn-north-1.rds.amazonaws.com.cn":          "cn-north-1",
		"app.global-abc.global.rds.amazonaws.com":         "",
		"abc0def1.dsql.us-east-1.on.aws":                  "us-east-1",
		"db.example.com":                                  "",
		"10.0.0.1":                                        "",
		"rds.amazonaws.com":                               "",
		"something.on.aws":                                "",
	} {
		assert.Equal(t, want, regionOfHost(host), host)
	}
	assert.Equal(t, "eu-west-1", regionOfARN("arn:aws:secretsmanager:eu-west-1:1:secret:x"))
	assert.Empty(t, regionOfARN("app/db"))
}

func FuzzParseToken(f *testing.F) {
	f.Add("h:1/?Action=connect&DBUser=a&X-Amz-Credential=k%2F20240101%2Fr%2Frds-db%2Faws4_request&X-Amz-Date=20240101T000000Z&X-Amz-Expires=900")
	f.Add("hunter2")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, ok := parseToken(text)
		if ok && (parsed.signedAt.IsZero() && parsed.signedAt.Year() != 1 || len(parsed.keyID) > len(text)) {
			t.Errorf("%+v", parsed)
		}
	})
}
