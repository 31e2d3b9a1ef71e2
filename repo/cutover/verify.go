package cutover

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
)

// VerifyOptions configures [Mover.Verify]. Zero fields mean the defaults.
type VerifyOptions struct {
	// Sample is the share of the keys to compare, from 0 to 1. Default: all. Only a full verification opens the gate of ShadowRead.
	Sample float64
	// Batch is the number of keys that are read at once. Default: 500.
	Batch int
	// Rate is the largest number of keys a second that are read from the old store. Default: no limit.
	Rate float64
	// Repair copies keys whose difference is real. It has an effect before PrimaryNew.
	Repair bool
	// MaxListed is the number of mismatches that the report lists. Default: 100.
	MaxListed int
}

// VerifyReport is the result of a verification.
type VerifyReport struct {
	MismatchCounts

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Sample is the share of the keys that were compared. 1 means all.
	Sample float64 `json:"sample"`
	// OldKeys and NewKeys are the numbers of keys that were read. Keys that the old store returns twice count twice.
	OldKeys int64 `json:"old_keys"`
	NewKeys int64 `json:"new_keys"`
	// Suspects is the number of buckets whose counts or hashes differ.
	Suspects int `json:"suspects"`
	// Listed are the first mismatches that do harm.
	Listed []Mismatch `json:"listed,omitempty"`
	// Repaired is the number of keys that were copied.
	Repaired int `json:"repaired"`
}

const buckets = 1 << 16

// digest describes the keys of a bucket on one side. The sum is that of a hash of each entry, so the order doesn't matter.
type digest struct{ count, sum uint64 }

// Verify compares both sides. It divides the keys into 65,536 buckets and compares the number of keys and a sum of the hashes of their
// entries. Then it compares the keys of the buckets that differ, and those that differ once more under their locks. Memory is
// bounded. The application continues meanwhile; keys that are being written are classified as raced.
//
// The report of a full verification is stored for the gate of ShadowRead. Call it from Backfill to PrimaryNew. ctx bounds it.
func (m *Mover[V]) Verify(ctx context.Context, options VerifyOptions) (*VerifyReport, error) {
	if options.Sample <= 0 || options.Sample > 1 {
		options.Sample = 1
	}
	if options.Batch == 0 {
		options.Batch = 500
	}
	if options.MaxListed == 0 {
		options.MaxListed = 100
	}
	s, err := m.loadState(ctx)
	if err != nil {
		return nil, err
	}
	if s.phase < Backfill || s.phase == Done {
		return nil, fmt.Errorf("cutover: %s: verify in phase %s: use it from backfill to primary_new", m.name, s.phase)
	}
	for {
		v := &verification[V]{m: m, options: options, pace: newPacer(options.Rate), seen: map[string]bool{}}
		v.report = VerifyReport{Started: time.Now(), Sample: options.Sample}
		err := v.run(ctx)
		if errors.Is(err, ErrCursorLost) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cutover: %s: verify: %w", m.name, err)
		}
		v.report.Finished = time.Now()
		if options.Sample == 1 {
			err = m.storeVerification(ctx, s.era, &v.report)
		}
		return &v.report, err
	}
}

// verification is one run of Verify.
type verification[V any] struct {
	m       *Mover[V]
	options VerifyOptions
	pace    *pacer
	report  VerifyReport
	old     [buckets]digest
	copied  [buckets]digest
	seen    map[string]bool // keys that are in the report
}

func (v *verification[V]) run(ctx context.Context) error {
	add := func(side *[buckets]digest, keys *int64) func(entries []Entry[V]) error {
		return func(entries []Entry[V]) error {
			now := time.Now()
			for _, e := range entries {
				if e = e.live(now); !e.Found {
					continue
				}
				b, sum, err := v.m.hash(e)
				if err != nil {
					return err
				}
				side[b].count++
				side[b].sum += sum
				*keys++
			}
			return nil
		}
	}
	if err := v.eachOld(ctx, v.isSampled, add(&v.old, &v.report.OldKeys)); err != nil {
		return err
	}
	if err := v.eachNew(ctx, v.isSampled, add(&v.copied, &v.report.NewKeys)); err != nil {
		return err
	}
	v.report.Compared = max(v.report.OldKeys, v.report.NewKeys)
	for b := range v.old {
		if v.old[b] != v.copied[b] {
			v.report.Suspects++
		}
	}
	if v.report.Suspects == 0 {
		return nil
	}
	differs := func(key string) bool {
		b := bucketOf(key)
		return v.isSampled(key) && v.old[b] != v.copied[b]
	}
	compare := func(entries []Entry[V]) error { return v.compareKeys(ctx, entries) }
	if err := v.eachOld(ctx, differs, compare); err != nil {
		return err
	}
	return v.eachNew(ctx, differs, compare)
}

func bucketOf(key string) uint16 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	sum := h.Sum64()
	return uint16(sum ^ sum>>16 ^ sum>>32 ^ sum>>48) //nolint:gosec // the low bits
}

func (v *verification[V]) isSampled(key string) bool {
	return float64(bucketOf(key)) < v.options.Sample*buckets
}

// hash returns the bucket of an entry and a hash of its key, value and expiry.
func (m *Mover[V]) hash(e Entry[V]) (bucket uint16, sum uint64, err error) {
	value, err := m.config.Canonical(e.Value)
	if err != nil {
		return 0, 0, &KeyError{Key: e.Key, Cause: err}
	}
	h := sha256.New()
	var expires int64
	if !e.Expires.IsZero() {
		expires = e.Expires.UnixMilli()
	}
	_, _ = fmt.Fprintf(h, "%d %s %d ", len(e.Key), e.Key, expires) // never fails
	_, _ = h.Write(value)
	return bucketOf(e.Key), binary.BigEndian.Uint64(h.Sum(nil)), nil
}

// eachOld calls fn with the entries of the old store that are wanted, in batches.
func (v *verification[V]) eachOld(ctx context.Context, wanted func(key string) bool, fn func([]Entry[V]) error) error {
	for cursor, first := "", true; first || cursor != ""; first = false {
		page, err := v.m.old.Scan(ctx, cursor, v.options.Batch)
		if err != nil {
			return err
		}
		cursor = page.Next
		var keys []string
		for _, key := range unique(page.Keys) {
			if wanted(key) {
				keys = append(keys, key)
			}
		}
		if err := v.pace.wait(ctx, len(page.Keys)); err != nil {
			return err
		}
		if len(keys) == 0 {
			continue
		}
		entries, err := v.m.old.Get(ctx, keys...)
		if err != nil {
			return err
		}
		if err := fn(entries); err != nil {
			return err
		}
	}
	return nil
}

// eachNew calls fn with the entries of PostgreSQL that are wanted, in batches.
func (v *verification[V]) eachNew(ctx context.Context, wanted func(key string) bool, fn func([]Entry[V]) error) error {
	for after := ""; ; {
		page, err := v.m.new.List(ctx, after, v.options.Batch)
		if err != nil {
			return err
		}
		entries := make([]Entry[V], 0, len(page))
		for _, e := range page {
			after = e.Key
			if wanted(e.Key) {
				entries = append(entries, e)
			}
		}
		if len(entries) > 0 {
			if err := fn(entries); err != nil {
				return err
			}
		}
		if len(page) < v.options.Batch {
			return nil
		}
	}
}

// compareKeys compares keys under their locks, a few in each transaction, and adds what it finds to the report.
func (v *verification[V]) compareKeys(ctx context.Context, entries []Entry[V]) error {
	const size = 100
	for len(entries) > 0 {
		n := min(size, len(entries))
		keys := make([]string, n)
		for i := range keys {
			keys[i] = entries[i].Key
		}
		entries = entries[n:]
		found, err := v.m.compareDiffering(ctx, keys)
		if err != nil {
			return err
		}
		if err := v.addMismatches(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

// compareDiffering compares keys without locks, and those that differ once more under their locks.
func (m *Mover[V]) compareDiffering(ctx context.Context, keys []string) ([]Mismatch, error) {
	s, err := m.loadState(ctx)
	if err != nil {
		return nil, err
	}
	old, err := m.old.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return m.compareEntries(ctx, &view{state: *s, ahead: time.Until(s.now)}, keys, old)
}

func (v *verification[V]) addMismatches(ctx context.Context, found []Mismatch) error {
	for _, mismatch := range found {
		if v.seen[mismatch.Key] {
			continue
		}
		if len(v.seen) < 100_000 { // bounds the memory; later keys may count twice
			v.seen[mismatch.Key] = true
		}
		v.report.add(mismatch.Kind)
		if mismatch.Kind == Raced || mismatch.Kind == Expired {
			continue
		}
		if len(v.report.Listed) < v.options.MaxListed {
			v.report.Listed = append(v.report.Listed, mismatch)
		}
		if !v.options.Repair {
			continue
		}
		err := v.m.sync(ctx, []string{mismatch.Key})
		switch {
		case errors.Is(err, errOtherPrimary):
		case err != nil:
			return keyError(mismatch.Key, err)
		default:
			v.report.Repaired++
		}
	}
	return nil
}

// storeVerification stores the report of a full verification.
func (m *Mover[V]) storeVerification(ctx context.Context, era int64, report *VerifyReport) error {
	stored := *report
	stored.Listed = nil // keys can hold secrets
	text, err := json.Marshal(&stored)
	if err != nil {
		return err
	}
	_, err = m.tx.Exec(ctx, `insert into rdsfx_cutover_verifications (name, era, report) values ($1, $2, $3::text::jsonb)
		on conflict (name) do update set era = excluded.era, report = excluded.report`, m.name, era, string(text))
	return m.stateError("store the verification", err)
}

// lastVerification returns the report of the last full verification of this era, nil if there is none.
func (m *Mover[V]) lastVerification(ctx context.Context, era int64) (*VerifyReport, error) {
	var text []byte
	err := m.tx.QueryRow(ctx, "select report from rdsfx_cutover_verifications where name = $1 and era = $2", m.name, era).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no report is not an error
	}
	if err != nil {
		return nil, m.stateError("read the verification", err)
	}
	var report VerifyReport
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("cutover: %s: read the verification: %w", m.name, err)
	}
	return &report, nil
}
