package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// effect is the result of an operation: its return value and the rows in the table.
type effect struct {
	returned any
	stored   []string
}

// Check runs an operation once with each contender, live and replayed. It returns an error unless all contenders return the
// same and store the same rows.
func (s *Server) Check(ctx context.Context, op *contest.Operation) error {
	var first effect
	for i, contender := range op.Contenders {
		live, err := s.effect(ctx, op, contender, Live)
		if err != nil {
			return err
		}
		if i == 0 {
			first = live
		}
		if err := first.differs(live); err != nil {
			return fmt.Errorf("%s: %s and %s differ: %w", op.Slug, op.Contenders[0].Name, contender.Name, err)
		}
		replayed, err := s.effect(ctx, op, contender, Replay)
		if err != nil {
			return err
		}
		replayed.stored = live.stored
		if err := live.differs(replayed); err != nil {
			return fmt.Errorf("%s: %s: live and replayed differ: %w", op.Slug, contender.Name, err)
		}
	}
	return nil
}

func (s *Server) effect(ctx context.Context, op *contest.Operation, contender contest.Contender, mode Mode) (effect, error) {
	runner, err := s.Open(ctx, op, contender, mode)
	if err != nil {
		return effect{}, err
	}
	defer runner.Close()
	if err := runner.Restore(ctx); err != nil {
		return effect{}, err
	}
	runner.Session.Prepare()
	if err := runner.Session.Call(ctx, 0); err != nil {
		return effect{}, fmt.Errorf("%s: %s: %w", op.Slug, contender.Name, err)
	}
	o := effect{returned: runner.Session.Result()}
	if mode == Live {
		if o.stored, err = s.stored(ctx, op); err != nil {
			return effect{}, err
		}
	}
	items, ok := o.returned.([]contest.Item)
	if !ok {
		return o, runner.Err()
	}
	items = contest.Normalize(items)
	if op.GeneratesKeys {
		if mode == Live {
			if err := s.checkKeys(ctx, items); err != nil {
				return effect{}, fmt.Errorf("%s: %s: %w", op.Slug, contender.Name, err)
			}
		}
		for i := range items {
			items[i].ID = uuid.Nil
		}
	}
	o.returned = items
	return o, runner.Err()
}

// stored returns the table's rows as text, without keys that the database has generated.
func (s *Server) stored(ctx context.Context, op *contest.Operation) ([]string, error) {
	columns := "id, name"
	if op.GeneratesKeys {
		columns = "name"
	}
	rows, err := s.conn.Query(ctx,
		"select row("+columns+", note, quantity, active, attributes, price, created_at, updated_at)::text from items order by name, id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// checkKeys verifies that the returned keys belong to their rows. It skips rows without a key.
func (s *Server) checkKeys(ctx context.Context, items []contest.Item) error {
	rows, err := s.conn.Query(ctx, "select name, id from items") //nolint:rowserrcheck // ForEachRow does
	if err != nil {
		return err
	}
	keys := make(map[string]uuid.UUID, len(items))
	var name string
	var id uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error {
		keys[name] = id
		return nil
	}); err != nil {
		return err
	}
	for i := range items {
		if item := &items[i]; item.ID != uuid.Nil && item.ID != keys[item.Name] {
			return fmt.Errorf("row %d has the key of another row", i)
		}
	}
	return nil
}

func (o effect) differs(other effect) error {
	if len(o.stored) != len(other.stored) {
		return fmt.Errorf("%d rows stored, not %d", len(o.stored), len(other.stored))
	}
	for i := range o.stored {
		if o.stored[i] != other.stored[i] {
			return fmt.Errorf("stored row %d:\n%s\n%s", i, o.stored[i], other.stored[i])
		}
	}
	items, ok := o.returned.([]contest.Item)
	others, okToo := other.returned.([]contest.Item)
	if !ok || !okToo || len(items) != len(others) {
		if !reflect.DeepEqual(o.returned, other.returned) {
			return fmt.Errorf("returned %T (%v), not %T (%v)", o.returned, size(o.returned), other.returned, size(other.returned))
		}
		return nil
	}
	for i := range items {
		if !reflect.DeepEqual(withoutDocument(items[i]), withoutDocument(others[i])) || document(items[i]) != document(others[i]) {
			return fmt.Errorf("returned row %d:\n%+v\n%+v", i, items[i], others[i])
		}
	}
	return nil
}

func withoutDocument(item contest.Item) contest.Item {
	item.Attributes = nil
	return item
}

// document returns the item's document with sorted keys and without spaces. A contender that returns its own rows has the document
// as json.Marshal writes it; one that reads it back has it as jsonb stores it.
func document(item contest.Item) string {
	var value any
	if err := json.Unmarshal(item.Attributes, &value); err != nil {
		return string(item.Attributes)
	}
	text, _ := json.Marshal(value) //nolint:errchkjson // a decoded document can be encoded
	return string(text)
}

func size(v any) any {
	if items, ok := v.([]contest.Item); ok {
		return fmt.Sprintf("%d rows", len(items))
	}
	return v
}
