package redisstore

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// Marks are members of a sorted set for each part, with the time of the write in microseconds as their score.

// markMember returns the member for a mark.
func markMember(m cutover.Mark) string { return m.ID + "\x00" + m.Key }

func parseMark(z redis.Z) cutover.Mark {
	member, _ := z.Member.(string)
	id, key, _ := strings.Cut(member, "\x00")
	return cutover.Mark{ID: id, Key: key, At: time.UnixMicro(int64(z.Score))}
}

// Marks returns a page of the marks, the oldest of a part first.
func (s *Store[V]) Marks(ctx context.Context, cursor string, limit int) (cutover.MarkPage, error) {
	at, err := parseMarkCursor(cursor)
	if err != nil || at.part >= s.parts() {
		return cutover.MarkPage{}, errCursor
	}
	counts, err := s.countMarks(ctx, at.part)
	if err != nil {
		return cutover.MarkPage{}, err
	}
	var page cutover.MarkPage
	for _, count := range counts {
		if count.part != at.part {
			at = markCursor{part: count.part}
		}
		marks, more, err := s.marksOf(ctx, at, limit-len(page.Marks))
		if err != nil {
			return cutover.MarkPage{}, err
		}
		page.Marks = append(page.Marks, marks...)
		if more || len(page.Marks) == limit {
			last := page.Marks[len(page.Marks)-1]
			page.Next = markCursor{s.partOf(last.Key), last.At.UnixMicro(), markMember(last)}.String()
			return page, nil
		}
	}
	return page, nil
}

// marksOf returns up to limit marks of a part that follow the cursor. more reports that there may be others.
func (s *Store[V]) marksOf(ctx context.Context, after markCursor, limit int) (marks []cutover.Mark, more bool, err error) {
	key := s.namesOf(after.part).marks
	// Marks of the same microsecond follow each other in the order of their members. Those up to the cursor are left out here.
	for fetch := limit; ; fetch *= 2 {
		from := redis.ZRangeBy{Min: strconv.FormatInt(after.micros, 10), Max: "+inf", Count: int64(fetch)}
		found, err := s.client.ZRangeByScoreWithScores(ctx, key, &from).Result()
		if err != nil {
			return nil, false, fmt.Errorf("redisstore: read the marks: %w", err)
		}
		for _, z := range found {
			mark := parseMark(z)
			if mark.At.UnixMicro() == after.micros && markMember(mark) <= after.member {
				continue
			}
			marks = append(marks, mark)
		}
		more = len(found) == fetch
		if len(marks) > limit {
			marks, more = marks[:limit], true
		}
		if len(marks) > 0 || !more {
			return marks, more, nil
		}
	}
}

// markCursor is the position of a mark.
type markCursor struct {
	part   int
	micros int64
	member string
}

func (c markCursor) String() string {
	return fmt.Sprintf("%d:%d:%s", c.part, c.micros, hex.EncodeToString([]byte(c.member)))
}

func parseMarkCursor(cursor string) (c markCursor, err error) {
	if cursor == "" {
		return c, nil
	}
	parts := strings.Split(cursor, ":")
	if len(parts) != 3 {
		return c, errCursor
	}
	part, err1 := strconv.ParseUint(parts[0], 10, 31)
	micros, err2 := strconv.ParseInt(parts[1], 10, 64)
	member, err3 := hex.DecodeString(parts[2])
	return markCursor{int(part), micros, string(member)}, errors.Join(err1, err2, err3)
}

// RemoveMarks removes marks. Marks that do not exist are ignored.
func (s *Store[V]) RemoveMarks(ctx context.Context, marks ...cutover.Mark) error {
	members := make(map[int][]any)
	for _, mark := range marks {
		part := s.partOf(mark.Key)
		members[part] = append(members[part], markMember(mark))
	}
	if len(members) == 0 {
		return nil
	}
	pipeline := s.client.Pipeline()
	for part, list := range members {
		pipeline.ZRem(ctx, s.namesOf(part).marks, list...)
	}
	if _, err := pipeline.Exec(ctx); err != nil {
		return fmt.Errorf("redisstore: remove marks: %w", err)
	}
	return nil
}

// CountMarks counts the marks of all hash slots.
func (s *Store[V]) CountMarks(ctx context.Context) (total cutover.MarkCount, err error) {
	counts, err := s.countMarks(ctx, 0)
	for _, count := range counts {
		total.Count += count.marks
		if total.Oldest.IsZero() || count.oldest.Before(total.Oldest) {
			total.Oldest = count.oldest
		}
	}
	return total, err
}

// partMarks describes the marks of a part that has some.
type partMarks struct {
	part   int
	marks  int64
	oldest time.Time
}

// countMarks returns the parts that have marks, in their order, beginning with a part.
func (s *Store[V]) countMarks(ctx context.Context, from int) (counts []partMarks, err error) {
	const fields = 3
	err = s.onParts(ctx, opCount, 0, from, func(parts []int, reply []int64) {
		for row := range slices.Chunk(reply, fields) {
			counts = append(counts, partMarks{part: parts[row[0]-1], marks: row[1], oldest: time.UnixMicro(row[2])})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("redisstore: count marks: %w", err)
	}
	slices.SortFunc(counts, func(a, b partMarks) int { return cmp.Compare(a.part, b.part) })
	return counts, nil
}
