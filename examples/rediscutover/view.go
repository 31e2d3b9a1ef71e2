package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// view shows the status: a block that is drawn again on a terminal, else one line a second.
type view struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex
	lines int // of the block on the terminal
}

func newView(out *os.File) *view {
	info, err := out.Stat()
	return &view{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// printf prints a line above the block.
func (v *view) printf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	_, _ = fmt.Fprintf(v.out, format+"\n", args...)
}

// clear removes the block. The caller must hold v.mu.
func (v *view) clear() {
	if v.lines > 0 {
		_, _ = fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.lines) // cursor up, erase to the end (ECMA-48)
		v.lines = 0
	}
}

// step prints the result of a step.
func (v *view) step(name string, r cutover.StepResult) {
	line := fmt.Sprintf("%s: %s → %s, epoch %d", name, r.From, r.To, r.Epoch)
	if r.Held > 0 {
		line += fmt.Sprintf(", writers held for %s", r.Held.Round(time.Millisecond))
	}
	if len(r.Fenced) > 0 {
		line += fmt.Sprintf(", %d processes fenced", len(r.Fenced))
	}
	v.printf("%s. %s", line, r.Undo)
}

// watch shows the status until ctx ends.
func (v *view) watch(ctx context.Context, mover *cutover.Mover[redisstore.Value], load *traffic) {
	interval := time.Second
	if v.terminal {
		interval = 200 * time.Millisecond
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var r rates
	for {
		if status, err := mover.Status(ctx); err == nil {
			r.update(load)
			v.show(status, r)
		} else if ctx.Err() == nil {
			v.printf("status: %v", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			v.mu.Lock()
			v.clear()
			v.mu.Unlock()
			return
		}
	}
}

// rates are the speed of the application.
type rates struct {
	at                  time.Time
	writes, reads       int64
	writeRate, readRate float64
	errors              int64
}

func (r *rates) update(load *traffic) {
	now, writes, reads := time.Now(), load.writes.Load(), load.reads.Load()
	if !r.at.IsZero() {
		seconds := now.Sub(r.at).Seconds()
		r.writeRate, r.readRate = float64(writes-r.writes)/seconds, float64(reads-r.reads)/seconds
	}
	r.at, r.writes, r.reads, r.errors = now, writes, reads, load.errors.Load()
}

func (v *view) show(s *cutover.Status, r rates) {
	rows := describe(s)
	traffic := fmt.Sprintf("%.0f writes/s, %.0f reads/s, %d errors", r.writeRate, r.readRate, r.errors)
	if !v.terminal {
		v.printf("%s %s · %s · backfill %s · repair log %s · mismatches %s", time.Now().Format(time.TimeOnly), rows[0].text, traffic,
			rows[2].text, rows[3].text, rows[4].text)
		return
	}
	rows = append(rows, row{"application", traffic})
	var block strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&block, "  %-12s %s\n", row.name, row.text)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	_, _ = io.WriteString(v.out, block.String())
	v.lines = len(rows)
}

// row is a line of the view.
type row struct{ name, text string }

// describe returns the rows for a status.
func describe(s *cutover.Status) []row {
	phase := fmt.Sprintf("%s, epoch %d", s.Phase, s.Epoch)
	if s.HeldFor != nil {
		phase += fmt.Sprintf(", writers held for the step to %s", *s.HeldFor)
	}
	live, late := 0, 0
	for _, p := range s.Processes {
		if p.Live {
			live++
			if p.Epoch < s.Epoch {
				late++
			}
		}
	}
	rows := []row{
		{"phase", phase},
		{"processes", fmt.Sprintf("%d live, %d have not observed the epoch", live, late)},
		{"backfill", backfill(s.Backfill)},
		{"repair log", repairs(s)},
		{"mismatches", mismatches(s)},
	}
	for _, gate := range s.Next {
		mark := "passed"
		if !gate.Passed {
			mark = "blocked: " + gate.Action
		}
		rows = append(rows, row{"gate", fmt.Sprintf("%s: %s, wanted %s (%s)", gate.Name, gate.Found, gate.Wanted, mark)})
	}
	if s.OldError != "" {
		rows = append(rows, row{"Redis", s.OldError})
	}
	return append(rows, row{"undo", s.Undo})
}

func backfill(p cutover.BackfillProgress) string {
	switch {
	case p.Complete:
		return "complete"
	case p.Stage == "":
		return "not begun"
	}
	return fmt.Sprintf("%s %d of %d keys, %.0f keys/s, %s left", p.Stage, p.Keys, p.Total, p.Rate, p.Remaining.Round(time.Second))
}

func repairs(s *cutover.Status) string {
	if s.Repairs == 0 || s.OldestRepair.IsZero() {
		return fmt.Sprintf("%d keys", s.Repairs)
	}
	return fmt.Sprintf("%d keys, lag %s", s.Repairs, time.Since(s.OldestRepair).Round(time.Millisecond))
}

func mismatches(s *cutover.Status) string {
	text := fmt.Sprintf("%d of %d shadow reads", s.Shadow.Mismatches(), s.Shadow.Compared)
	if v := s.Verification; v != nil {
		text = fmt.Sprintf("%d of %d verified keys, %s", v.Mismatches(), v.OldKeys, text)
	}
	return text
}
