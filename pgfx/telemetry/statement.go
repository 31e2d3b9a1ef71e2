package telemetry

import (
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// maxTexts is how many statement texts are kept. When there are more, all are dropped, as an application that generates texts
	// needs none of them.
	maxTexts = 1000
	// maxTextLen is the length in bytes of the longest text that is kept.
	maxTextLen = 4 << 10
)

// statement is what all executions of a text have in common.
type statement struct {
	operation pgfx.Operation
	summary   string
	returning bool // it returns the rows that it changes
	text      string

	succeeded *series // the series of executions without an error

	once       sync.Once
	normalized string
}

// normalizedText returns the text without values.
func (s *statement) normalizedText() string {
	s.once.Do(func() { s.normalized = string(sqltext.Normalize(nil, s.text)) })
	return s.normalized
}

// attributes returns the attributes of spans and metrics that name the statement.
func (s *statement) attributes() []attribute.KeyValue {
	return summaryAttributes(s.summary, s.operation)
}

func summaryAttributes(summary string, op pgfx.Operation) []attribute.KeyValue {
	var attrs []attribute.KeyValue
	if summary != "" {
		attrs = append(attrs, semconv.DBQuerySummary(summary))
	}
	if op != (pgfx.Operation{}) {
		attrs = append(attrs, semconv.DBOperationName(op.Name), semconv.DBCollectionName(op.Collection))
	}
	return attrs
}

// statementCache finds the statement of a text. Analyzing a text takes longer than everything else that happens for an execution.
type statementCache struct {
	metrics  *metrics
	maxTexts int

	mu    sync.RWMutex
	found map[statementKey]*statement
}

type statementKey struct {
	text      string
	operation pgfx.Operation
}

func (c *statementCache) find(text string, op pgfx.Operation) *statement {
	key := statementKey{text, op}
	c.mu.RLock()
	s := c.found[key]
	c.mu.RUnlock()
	if s != nil {
		return s
	}
	key.text = strings.Clone(text) // it may be a part of something large
	s = &statement{operation: op, text: key.text}
	s.summary, s.returning = sqltext.Summarize(key.text)
	if op != (pgfx.Operation{}) {
		s.summary = op.Name + " " + op.Collection
	}
	s.succeeded = c.metrics.seriesOf(seriesKey{summary: s.summary, operation: op})
	if len(text) > maxTextLen {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil || len(c.found) >= c.maxTexts {
		c.found = make(map[statementKey]*statement)
	}
	c.found[key] = s
	return s
}

// ofBatch returns a statement that stands for a batch. Its summary is that of its statements if they agree.
func (c *statementCache) ofBatch(batch []*pgx.QueuedQuery, op pgfx.Operation) *statement {
	first := c.find(batch[0].SQL, op)
	if len(batch) == 1 {
		return first
	}
	s := &statement{operation: op, summary: first.summary, text: first.text}
	if op == (pgfx.Operation{}) && !strings.HasPrefix(first.summary, "begin") { // a batch that begins a transaction is named so
		s.summary = "BATCH " + first.summary
		for _, query := range batch[1:] {
			if c.find(query.SQL, op).summary != first.summary {
				s.summary = "BATCH"
				break
			}
		}
	}
	s.succeeded = c.metrics.seriesOf(seriesKey{summary: s.summary, operation: op})
	return s
}
