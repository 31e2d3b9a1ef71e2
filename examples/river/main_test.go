package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestSignUp_EnqueuesTheJobWithItsRow(t *testing.T) {
	t.Parallel()
	greeted := make(chan string, 10)
	var signups *Signups
	app := fxtest.New(t, fxtest.Fx(signupModule, fx.Supply(Greet(func(email string) { greeted <- email })), fx.Populate(&signups)))
	jobs := func() (n int) {
		require.NoError(t, app.Pool.QueryRow(t.Context(), "select count(*) from river_job").Scan(&n))
		return n
	}

	err := app.Tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, signups.SignUp(ctx, "eve@example.com"))
		return assert.AnError
	})
	require.ErrorIs(t, err, assert.AnError)
	assert.Zero(t, jobs(), "no job without its row")

	require.NoError(t, signups.SignUp(t.Context(), "ada@example.com"))
	select {
	case email := <-greeted:
		assert.Equal(t, "ada@example.com", email)
	case <-time.After(time.Minute):
		require.Fail(t, "the job did not run")
	}
	require.ErrorIs(t, signups.SignUp(t.Context(), "ada@example.com"), repo.ErrConstraint)
	assert.Equal(t, 1, jobs())
}
