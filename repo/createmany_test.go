package repo_test

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Event has no generated columns and no defaults.
type Event struct {
	ID        uuid.UUID `db:"id,pk"`
	Kind      string
	Weight    *int32
	Ratio     float64
	Labels    []string
	Payload   Payload `db:"payload,json"`
	Body      []byte
	At        time.Time
	CreatedAt time.Time `db:"created_at,created"`
	Version   int64     `db:"version,version"`
}

type Payload struct {
	Theme string
	Flags map[string]bool `json:"flags"`
}

const eventsDDL = `create table events (id uuid primary key, kind text not null constraint events_kind_check check (kind <> 'bad'),
	weight integer, ratio double precision not null, labels text[], payload jsonb not null, body bytea, at timestamptz not null,
	created_at timestamptz not null, version bigint not null)`

func manyEvents(n int) []Event {
	rows := make([]Event, n)
	for i := range rows {
		rows[i] = Event{
			Kind: fmt.Sprintf("kind%d", i), Ratio: float64(i) / 3, Labels: []string{"a", "ü"}, Body: []byte{0, byte(i)},
			Payload: Payload{Theme: "dark"}, At: time.Date(2024, 1, 1, 0, 0, i, 123456789, time.FixedZone("x", 3600)),
		}
		if i%2 == 0 {
			weight := int32(i)
			rows[i].Weight = &weight
		}
	}
	return rows
}

func TestCreateMany_ReturnsWhatIsStored(t *testing.T) {
	t.Parallel()
	trigger := "create function f() returns trigger language plpgsql as $$begin new.ratio = 1; return new; end$$; " +
		"create trigger f before insert on events for each row execute function f()"
	for name, ddl := range map[string]string{
		"plain table":   "",
		"trigger":       trigger,
		"rounded time":  "alter table events alter at type timestamptz(0)",
		"rounded float": "alter table events alter ratio type numeric(10, 2)",
		"padded text":   "alter table events alter kind type char(10)",
		"row security":  "alter table events enable row level security, force row level security; create policy p on events using (true)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &counter{}
			m := managerOf(t, newDB(t, tracer(count)), eventsDDL)
			if ddl != "" {
				_, err := m.Exec(t.Context(), ddl)
				require.NoError(t, err)
			}
			events := newRepo[Event, uuid.UUID](t, m, "events", repo.WithKeys(uuid.New))
			for _, n := range []int{1, 64, 255, 256, 2000} {
				rows := manyEvents(n)
				count.drain()
				require.NoError(t, events.CreateMany(t.Context(), rows))
				staged := slices.ContainsFunc(count.drain(), func(text string) bool { return strings.HasPrefix(text, "copy") })
				assert.Equal(t, n >= 256, staged, n)
				keys := make([]uuid.UUID, n)
				for i := range rows {
					keys[i] = rows[i].ID
				}
				stored, err := events.GetMany(t.Context(), keys)
				require.NoError(t, err)
				require.Equal(t, stored, rows, n)
			}
		})
	}
}

func TestCreateMany_NamesTheRefusedRow(t *testing.T) {
	t.Parallel()
	m := newManager(t, eventsDDL)
	events := newRepo[Event, uuid.UUID](t, m, "events", repo.WithKeys(uuid.New))
	for _, n := range []int{5, 40, 100, 3000} {
		bad := n - 2
		for name, modify := range map[string]func(*Event){
			"check":         func(e *Event) { e.Kind = "bad" },
			"not encodable": func(e *Event) { e.At = time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC) },
			"not text":      func(e *Event) { e.Kind = "\xff" },
			"not JSON":      func(e *Event) { e.Payload.Theme = "a\x00" },
		} {
			rows := manyEvents(n)
			modify(&rows[bad])
			err := events.CreateMany(t.Context(), rows)
			require.Error(t, err, "%s of %d", name, n)
			require.ErrorContains(t, err, fmt.Sprintf("index %d", bad), "%s of %d", name, n)
			require.NotContains(t, err.Error(), "300000")
			assert.Zero(t, rows[0].Version, "the structs are unchanged")
		}
		count, err := events.Count(t.Context())
		require.NoError(t, err)
		assert.Zero(t, count, "no row is stored")
	}
}

// Hidden has a nested type with custom JSON, so the stored value differs from the field.
type Hidden struct {
	ID  int64 `db:"id,pk"`
	Doc Outer `db:"doc,json"`
}

type Outer struct{ Inner Twisted }

type Twisted struct{ N int }

func (t Twisted) MarshalJSON() ([]byte, error) { return json.Marshal(t.N + 1) }

func (t *Twisted) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &t.N) }

func TestCreateMany_ReturnsValuesOfCustomJSONTypes(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table hidden (id bigint primary key, doc jsonb not null)")
	r := newRepo[Hidden, int64](t, m, "hidden")
	rows := make([]Hidden, 100)
	for i := range rows {
		rows[i] = Hidden{ID: int64(100 - i), Doc: Outer{Twisted{i}}}
	}
	require.NoError(t, r.CreateMany(t.Context(), rows))
	for i := range rows {
		require.Equal(t, Hidden{ID: int64(100 - i), Doc: Outer{Twisted{i + 1}}}, rows[i])
	}
}

func TestCreateMany_WritesNothingIfATriggerSuppressesARow(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	_, err := m.Exec(t.Context(), `create function f() returns trigger language plpgsql as $$begin
		if new.age = 1 then return null; end if; return new; end$$; create trigger f before insert on users for each row execute function f()`)
	require.NoError(t, err)
	keyed := newRepo[User, uuid.UUID](t, m, "users", repo.WithKeys(uuid.New))
	for _, n := range []int{2, 31, 32, 64, 3000} {
		for _, r := range []*repo.Repository[User, uuid.UUID]{users, keyed} {
			rows := make([]User, n)
			for i := range rows {
				rows[i] = User{Email: fmt.Sprint("user", i), Age: i}
			}
			require.ErrorContains(t, r.CreateMany(t.Context(), rows), "suppressed the write", n)
			count, err := r.Count(t.Context())
			require.NoError(t, err)
			require.Zero(t, count, n)
		}
	}
}

// Loose has a field whose Value method may fail.
type Loose struct {
	ID    int64 `db:"id,pk"`
	Plain Odd   `db:"plain"`
}

type Odd struct{ Text string } //nolint:recvcheck // sql.Scanner and driver.Valuer require it

func (o Odd) Value() (driver.Value, error) {
	if o.Text == "odd" {
		return nil, errors.New("the value is odd: hush-hush")
	}
	return o.Text, nil
}

func (o *Odd) Scan(src any) error {
	o.Text, _ = src.(string)
	return nil
}

func TestWrite_NamesUnsendableValuesWithoutShowingThem(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table loose (id bigint primary key, plain text not null)")
	r := newRepo[Loose, int64](t, m, "loose")
	for _, n := range []int{1, 5, 40, 300} {
		rows := make([]Loose, n)
		for i := range rows {
			rows[i].ID = int64(i)
		}
		rows[n-1].Plain.Text = "odd"
		want := fmt.Sprintf(`repo: row at index %d for loose: `, n-1)
		err := r.CreateMany(t.Context(), rows)
		require.EqualError(t, err, want+`create loose: the value for column "plain" (field Plain) can't be sent as type text`)
		require.NotContains(t, err.Error(), "hush")
		require.NotContains(t, err.Error(), "batch")
		_, upserting := r.UpsertMany(t.Context(), rows)
		require.EqualError(t, upserting, want+`upsert loose: the value for column "plain" (field Plain) can't be sent as type text`)
		require.NotContains(t, upserting.Error(), "hush")
	}
	err := r.Create(t.Context(), &Loose{Plain: Odd{"odd"}})
	require.EqualError(t, err, `repo: create loose: the value for column "plain" (field Plain) can't be sent as type text`)
}
