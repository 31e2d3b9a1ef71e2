package jobservice_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

// TestContenders_RespondAlike sends the same requests to all services and compares the responses.
func TestContenders_RespondAlike(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the service")
	}
	contenders := startAll(t, fxtest.URL(t))
	want := talk(t, contenders[0])
	for _, c := range contenders[1:] {
		assert.Equal(t, want, talk(t, c), c.name)
	}
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// exchange is a request with what is comparable of its response.
type exchange struct {
	request string
	status  int
	etag    string
	body    any
}

// talk sends requests and returns what came back.
func talk(t *testing.T, c *contender) (exchanges []exchange) {
	t.Helper()
	send := func(method, path string, body any, match string) response {
		t.Helper()
		r, err := c.send(t.Context(), method, path, body, match)
		require.NoError(t, err)
		exchanges = append(exchanges, exchange{method + " " + anyID.ReplaceAllString(path, "…"), r.status, r.etag, withoutIDs(t, r)})
		return r
	}
	type object = map[string]any
	var user User
	require.NoError(t, json.Unmarshal(send("PUT", "/v1/users/ada", object{"email": "ada@example.com", "username": "ada"}, "").body, &user))
	send("PUT", "/v1/users/ada", object{"email": "ada@example.org", "username": "ada"}, "")
	send("PUT", "/v1/users/bob", object{"email": "ada@example.org", "username": "bob"}, "")
	send("PUT", "/v1/users/eve", object{"email": "nonsense", "username": ""}, "")
	send("PUT", "/v1/users/eve", object{"mail": "x"}, "")

	configuration := object{"topic": "go", "sections": 2}
	ids := make([]uuid.UUID, 3)
	for i := range ids {
		ids[i] = uuid.New()
		input := object{"id": ids[i], "user_id": user.ID, "configuration": configuration}
		send("POST", "/v1/jobs", input, "")
		send("POST", "/v1/jobs", input, "")
	}
	send("POST", "/v1/jobs", object{"user_id": user.ID, "configuration": configuration}, "")
	send("POST", "/v1/jobs", object{"user_id": uuid.Nil, "configuration": configuration}, "")
	send("POST", "/v1/jobs", object{"user_id": user.ID, "configuration": object{"topic": "", "sections": 2}}, "")

	job := "/v1/jobs/" + ids[0].String()
	unknown := "/v1/jobs/" + uuid.NewString()
	change := object{"configuration": object{"topic": "rust", "sections": 5}}
	send("GET", job, nil, "")
	send("PUT", job, change, `"1"`)
	send("PUT", job, change, `"1"`)
	send("PUT", job, change, "")
	send("GET", job, nil, "")
	send("GET", unknown, nil, "")
	send("PUT", unknown, change, `"1"`)
	send("GET", "/v1/jobs/nonsense", nil, "")

	var first, second page
	require.NoError(t, json.Unmarshal(send("GET", "/v1/jobs?limit=3", nil, "").body, &first))
	r, err := c.send(t.Context(), http.MethodGet, "/v1/jobs?limit=3&cursor="+first.Next, nil, "")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(r.body, &second))
	assert.Len(t, first.Items, 3, c.name)
	assert.Len(t, second.Items, 1, c.name)
	assert.Empty(t, second.Next, c.name)
	assert.Equal(t, ids[0], second.Items[0].ID, c.name)
	send("GET", "/v1/jobs?limit=0", nil, "")
	send("GET", "/v1/jobs?cursor=x", nil, "")
	return exchanges
}
