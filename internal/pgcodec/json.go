package pgcodec

import (
	"bytes"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgtype"
)

// jsonCodec copies a document into a json.RawMessage, where pgx has json.Unmarshal parse it twice to do the same. The
// server has checked the document already.
type jsonCodec struct{ *pgtype.JSONCodec }

func (c jsonCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if plan := planRaw(target); plan != nil {
		return plan
	}
	return c.JSONCodec.PlanScan(m, oid, format, target)
}

// jsonbCodec is jsonCodec for jsonb, whose binary form has a version in front.
type jsonbCodec struct{ *pgtype.JSONBCodec }

const jsonbVersion = 1

func (c jsonbCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	plan := planRaw(target)
	switch {
	case plan == nil:
		return c.JSONBCodec.PlanScan(m, oid, format, target)
	case format == pgtype.BinaryFormatCode:
		return scanBinaryJSONB{document: plan, stock: c.JSONBCodec}
	}
	return plan
}

// planRaw returns a plan for a target that wants the document as it is, nil for others.
func planRaw(target any) pgtype.ScanPlan {
	switch target.(type) {
	case *json.RawMessage:
		return scanRaw{}
	case **json.RawMessage:
		return scanRawPointer{}
	}
	return nil
}

type scanRaw struct{}

func (scanRaw) Scan(src []byte, target any) error {
	raw := target.(*json.RawMessage) //nolint:forcetypeassert // the plan was made for this type
	if src == nil {
		*raw = nil
		return nil
	}
	document := bytes.Trim(src, " \t\r\n") // type json keeps the white space around a document, json.Unmarshal doesn't
	if len(document) == 0 {
		return json.Unmarshal(src, raw) //nolint:wrapcheck // pgx names the column and wraps
	}
	*raw = append(make(json.RawMessage, 0, len(document)), document...)
	return nil
}

// scanRawPointer makes SQL's NULL and JSON's null a nil pointer, as pgx does.
type scanRawPointer struct{}

func (scanRawPointer) Scan(src []byte, target any) error {
	pointer := target.(**json.RawMessage) //nolint:forcetypeassert // the plan was made for this type
	if src == nil || string(src) == "null" {
		*pointer = nil
		return nil
	}
	raw := new(json.RawMessage)
	if err := (scanRaw{}).Scan(src, raw); err != nil {
		return err
	}
	*pointer = raw
	return nil
}

type scanBinaryJSONB struct {
	document pgtype.ScanPlan
	stock    *pgtype.JSONBCodec
}

func (p scanBinaryJSONB) Scan(src []byte, target any) error {
	switch {
	case src == nil:
		return p.document.Scan(nil, target) //nolint:wrapcheck // pgx names the column and wraps
	case len(src) == 0 || src[0] != jsonbVersion: // pgx says what is wrong
		return p.stock.PlanScan(nil, pgtype.JSONBOID, pgtype.BinaryFormatCode, target).Scan(src, target) //nolint:wrapcheck // as above
	}
	return p.document.Scan(src[1:], target) //nolint:wrapcheck // as above
}
