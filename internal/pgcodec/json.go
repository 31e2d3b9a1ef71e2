package pgcodec

import (
	"bytes"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgtype"
)

// jsonCodec copies a document into a json.RawMessage. pgx lets json.Unmarshal parse it twice for the same result. The server has
// already checked the document.
type jsonCodec struct{ *pgtype.JSONCodec }

func (c jsonCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if plan := planRaw(target); plan != nil {
		return plan
	}
	return c.JSONCodec.PlanScan(m, oid, format, target)
}

// jsonbCodec is jsonCodec for jsonb, whose binary format begins with a version.
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

// planRaw returns a plan for a target that holds the unparsed document, or nil.
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
	document := bytes.Trim(src, " \t\r\n") // json.Unmarshal drops the white space that type json keeps
	if len(document) == 0 {
		return json.Unmarshal(src, raw) //nolint:wrapcheck // pgx names the column and wraps
	}
	*raw = append(make(json.RawMessage, 0, len(document)), document...)
	return nil
}

// scanRawPointer reads SQL's NULL and JSON's null as a nil pointer, as pgx does.
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
	case len(src) == 0 || src[0] != jsonbVersion: // pgx reports the error
		return p.stock.PlanScan(nil, pgtype.JSONBOID, pgtype.BinaryFormatCode, target).Scan(src, target) //nolint:wrapcheck // as above
	}
	return p.document.Scan(src[1:], target) //nolint:wrapcheck // as above
}
