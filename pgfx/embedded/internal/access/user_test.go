package access_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

func TestServerUser_IsNilUnlessRoot(t *testing.T) {
	t.Parallel()
	user, err := access.ServerUser(1000, "postgres")
	require.NoError(t, err)
	assert.Nil(t, user)
}

func TestServerUser_UsesTheNamedUser(t *testing.T) {
	t.Parallel()
	user, err := access.ServerUser(0, "nobody")
	require.NoError(t, err)
	assert.Equal(t, "nobody", user.Name)
	assert.NotZero(t, user.UID)
}

func TestServerUser_HasFallbacks(t *testing.T) {
	t.Parallel()
	user, err := access.ServerUser(0, "")
	require.NoError(t, err)
	assert.Contains(t, []string{"postgres", "nobody"}, user.Name)
}

func TestServerUser_RejectsUnusableUsers(t *testing.T) {
	t.Parallel()
	_, err := access.ServerUser(0, "no-such-user")
	require.ErrorContains(t, err, "RDSFX_POSTGRES_USER=no-such-user: ")
	require.ErrorContains(t, err, "name an existing user other than root")
	_, err = access.ServerUser(0, "root")
	require.ErrorContains(t, err, "user root has user id 0, and PostgreSQL refuses to run as root")
	_, err = access.SelectUser(0, "", "no-such-user")
	require.ErrorContains(t, err, "name an ordinary user in RDSFX_POSTGRES_USER")
}
