package contest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Schema creates the table that all contenders use.
const Schema = `create table items (
	id         uuid primary key default gen_random_uuid(),
	name       text not null,
	note       text,
	quantity   integer not null,
	active     boolean not null,
	attributes jsonb not null,
	price      double precision not null,
	created_at timestamptz not null,
	updated_at timestamptz not null
)`

// Item is a row for every contender except sqlc's form of code. Automatic timestamps are disabled, so that all contenders store
// the same values.
type Item struct {
	ID         uuid.UUID       `bun:"id,pk,type:uuid,default:gen_random_uuid()" db:"id,pk,default" gorm:"type:uuid;primaryKey;default:gen_random_uuid()"`
	Name       string          `db:"name"`
	Note       *string         `db:"note"`
	Quantity   int32           `db:"quantity"`
	Active     bool            `db:"active"`
	Attributes json.RawMessage `bun:"type:jsonb" db:"attributes" gorm:"type:jsonb"`
	Price      float64         `db:"price"`
	CreatedAt  time.Time       `db:"created_at" gorm:"autoCreateTime:false"`
	UpdatedAt  time.Time       `db:"updated_at" gorm:"autoUpdateTime:false"`
}

// Statements that several contenders use.
const (
	columns      = "id, name, note, quantity, active, attributes, price, created_at, updated_at"
	dataColumns  = "name, note, quantity, active, attributes, price, created_at, updated_at"
	placeholders = "$1, $2, $3, $4, $5, $6, $7, $8, $9"
	assignments  = "name = excluded.name, note = excluded.note, quantity = excluded.quantity, active = excluded.active, " +
		"attributes = excluded.attributes, price = excluded.price, created_at = excluded.created_at, updated_at = excluded.updated_at"

	getSQL    = "select " + columns + " from items where id = $1"
	listSQL   = "select " + columns + " from items order by id limit $1"
	insertSQL = "insert into items (" + columns + ") values (" + placeholders + ") returning " + columns
	upsertSQL = "insert into items (" + columns + ") values (" + placeholders + ") " +
		"on conflict (id) do update set " + assignments + " returning " + columns
	countSQL  = "select count(*) from items where active = $1"
	existsSQL = "select exists (select from items where id = $1)"
)

func names(list string) []string { return strings.Split(list, ", ") }

// Listed is the number of rows that the operation list reads.
const Listed = 1000

// Key returns the key of the i-th row.
func Key(i int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)) //nolint:gosec // never negative
	id[6], id[8] = 0x70, 0x80                     // version 7, as an application would generate
	return id
}

// Row returns the i-th row.
func Row(i int) Item {
	at := time.Date(2026, time.January, 2, 3, 4, 5, 678_900_000, time.UTC).Add(time.Duration(i) * time.Second)
	row := Item{
		ID: Key(i), Name: fmt.Sprintf("item number %06d", i), Quantity: int32(i % 1000), Active: i%2 == 0,
		Attributes: json.RawMessage(fmt.Sprintf(`{"weight":%d,"colour":"blue","tags":["new","blue"]}`, i)), // as json.Marshal writes it
		Price:      float64(i) + 0.25, CreatedAt: at, UpdatedAt: at.Add(time.Hour),
	}
	if i%3 != 0 {
		note := fmt.Sprintf("a note on item %d that is some words long", i)
		row.Note = &note
	}
	return row
}

// Rows returns n rows from the i-th on.
func Rows(i, n int) []Item {
	rows := make([]Item, n)
	for j := range rows {
		rows[j] = Row(i + j)
	}
	return rows
}

// Normalize returns a copy of rows that can be compared: all times are in UTC.
func Normalize(rows []Item) []Item {
	normal := make([]Item, len(rows))
	for i, row := range rows {
		row.CreatedAt, row.UpdatedAt = row.CreatedAt.UTC(), row.UpdatedAt.UTC()
		normal[i] = row
	}
	return normal
}
