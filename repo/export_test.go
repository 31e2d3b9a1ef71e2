package repo

import (
	"context"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Render writes filters into a statement of the model and returns its text and arguments.
func Render(m Model, filters ...Filter) (string, []any, error) {
	b := newBuilder(m.d, "select from "+m.d.table)
	q := &query{deleted: withDeleted}
	for _, f := range filters {
		f.apply(q)
	}
	q.where(b)
	return b.sql.String(), b.args, b.err
}

// ParseTag reads a tag and reports whether it is one.
func ParseTag(tag string) (string, bool) {
	name, _, err := parseTag(tag)
	return name, err == nil
}

// CompileType compiles a struct type.
func CompileType(typ reflect.Type) error {
	_, err := compile(typ)
	return err
}

// Texts remembers texts.
type Texts struct{ cache statementCache }

// KnownTexts is how many of them.
const KnownTexts = statementCacheSize

// Text returns what was written.
func (t *Texts) Text(written string) string { return t.cache.intern([]byte(written)) }

// Made returns the text for a key.
func (t *Texts) Made(key string, compile func() string) string {
	return t.cache.getOrCompile([]byte(key), compile)
}

// Core is a repository for a struct type that is known at run time only. It uses the statements, arguments and row readers of
// Repository.
type Core struct {
	tx   *txn.Manager
	d    *descriptor
	live *liveColumns
}

// NewCore makes a core for a model whose key is its first field.
func NewCore(tx *txn.Manager, typ reflect.Type, table string) (*Core, error) {
	d, err := describe(typ, typ.Field(0).Type, table, nil)
	if err != nil {
		return nil, err
	}
	live, err := (&base{tx: tx, d: d}).readLive(context.Background())
	return &Core{tx: tx, d: d, live: live}, err
}

// Insert is Create without bringing anything back.
func (c *Core) Insert(ctx context.Context, row reflect.Value) error {
	layout, live := c.d.insertLayout(nil, row), c.live
	return c.write(ctx, c.d.createText(live, layout), c.d.insertArgs(c.live, nil, row, layout))
}

// Update is Update without bringing anything back.
func (c *Core) Update(ctx context.Context, row reflect.Value) error {
	return c.write(ctx, c.d.updateText(c.live), c.d.updateArgs(c.live, row))
}

// query runs a statement as Repository does.
func (c *Core) query(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	return c.tx.Query(ctx, sql, newDescriber(isUntyped(c.tx)).args(args)...) //nolint:rowserrcheck // the caller checks it
}

// Unreadable is the reason why Repository refuses all writes, nil if it doesn't.
func (c *Core) Unreadable() error {
	if c.live.unreadable == nil {
		return nil
	}
	return c.live.unreadable
}

func (c *Core) write(ctx context.Context, sql string, args []any) error {
	rows, err := c.query(ctx, sql, args)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Copy copies one row.
func (c *Core) Copy(ctx context.Context, row reflect.Value) error {
	taken := false
	target := copyTarget{c.d.path, c.d.layoutColumns(c.d.insertLayout(nil, row)), c.d, c.live}
	_, err := copyRows(ctx, c.tx, target, func() (reflect.Value, error) {
		if taken {
			return reflect.Value{}, errNoMoreRows
		}
		taken = true
		return row, nil
	})
	return err
}

// All is Find, by the row plan or by the slow reader.
func (c *Core) All(ctx context.Context, plan bool, orderBy string) ([]reflect.Value, error) {
	return c.read(ctx, plan, c.d.statements.selectFrom+" order by "+orderBy)
}

// Get is Get.
func (c *Core) Get(ctx context.Context, plan bool, key reflect.Value) (reflect.Value, error) {
	rows, err := c.read(ctx, plan, c.d.statements.get, c.d.keyArgs(nil, key)...)
	if err != nil {
		return reflect.Value{}, err
	}
	if len(rows) != 1 {
		return reflect.Value{}, pgx.ErrNoRows
	}
	return rows[0], nil
}

func (c *Core) read(ctx context.Context, plan bool, sql string, args ...any) ([]reflect.Value, error) {
	rows, err := c.query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var (
		found []reflect.Value
		slow  func(row any) error
	)
	for rows.Next() {
		row := reflect.New(c.d.typ).Elem()
		if !plan || !rowplan.ScanValue(c.d.plans.For(rows, 0), rows.RawValues(), row) {
			row.SetZero()
			if slow == nil {
				if slow, err = c.d.slowReader(rows, nil, nil); err != nil {
					return nil, err
				}
			}
			if err := slow(row.Addr().Interface()); err != nil {
				return nil, err
			}
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// ReadSlow reads the current row without a row plan.
func ReadSlow[T any](m Model, rows pgx.Rows, extra ...any) (row T, err error) {
	read, err := m.d.slowReader(rows, nil, extra)
	if err != nil {
		return row, err
	}
	err = read(&row)
	return row, err
}

// ScanyReads reports whether scany reads a model.
func ScanyReads(m Model) bool { return m.d.scanyReads() }

// ReadColumns returns a line for each column that readColumns finds.
func ReadColumns(ctx context.Context, q Querier, table string) ([]string, error) {
	var lines []string
	err := readColumns(ctx, q, table, func(live *liveTable, _ *pgx.Conn) { lines = describeColumns(live.Columns) })
	return lines, err
}

func describeColumns(columns []liveColumn) []string {
	lines := make([]string, len(columns))
	for i, c := range columns {
		parts := []string{c.Name, c.Type, c.BaseName, c.Kind, strconv.Itoa(int(c.Typmod))}
		for _, flag := range []struct {
			set  bool
			text string
		}{
			{c.isDomain(), "domain"},
			{c.NotNull, "not null"},
			{c.Default, "default"},
			{c.Generated, "generated"},
			{c.Identity != "", "identity " + c.Identity},
			{c.Collation != "", "collation " + c.Collation},
			{c.Array, "array"},
			{c.Sort != "", "sort " + c.Sort},
		} {
			if flag.set {
				parts = append(parts, flag.text)
			}
		}
		lines[i] = strings.Join(parts, " ")
	}
	return lines
}
