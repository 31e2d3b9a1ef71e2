package testtypes

import (
	"database/sql/driver"
	"reflect"
	"slices"
	"strings"
)

// Column is a type of a column.
type Column struct {
	// Type is the type in SQL. Base is its base type, Type itself unless it is a domain.
	Type, Base string
	// Texts are literals that the type can hold.
	Texts []string
	// Extension is the extension of the type, "" for none.
	Extension string
}

// DDL creates the types of Columns, except those of extensions.
const DDL = `create domain d_int as int4; create domain d_text as text check (value <> 'refused'); create domain d_date as date;
	create domain d_timestamptz as timestamptz; create domain d_numeric as numeric(8,2); create domain d_jsonb as jsonb;
	create domain d_uuid as uuid; create domain d_money as money; create domain d_texts as text[]; create domain d_of_date as d_date;
	create type status as enum ('sad', 'happy'); create domain d_status as status; create type pair as (a int4, b text);
	create type floatspan as range (subtype = float8)`

func column(typ string, literals ...string) Column {
	return Column{Type: typ, Base: typ, Texts: literals}
}

func domain(typ, base string, literals ...string) Column {
	return Column{Type: typ, Base: base, Texts: literals}
}

func extension(name, typ string, literals ...string) Column {
	return Column{Type: typ, Base: typ, Texts: literals, Extension: name}
}

// Columns returns the column types.
func Columns() []Column { return slices.Concat(baseTypes(), otherTypes()) }

const id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

func baseTypes() []Column {
	return []Column{
		column("boolean", "true"),
		column(`"char"`, "x"),
		column("name", "word", strings.Repeat("long", 20)),
		column("text", "word", "tab\tnewline\nquote'\"\\ 漢字 🎈 \\N"), //nolint:gosmopolitan // text of several bytes a character
		column("varchar(5)", "word", "too long"),
		column("char(8)", "word"),
		column("bytea", `\x00ff5c`),
		column("smallint", "-32768", "32767"),
		column("integer", "-2147483648", "2147483647"),
		column("bigint", "-9223372036854775808", "9223372036854775807"),
		column("oid", "4294967295"),
		column("xid", "4294967295"),
		column("xid8", "18446744073709551615"),
		column("cid", "7"),
		column("tid", "(0,1)"),
		column("regclass", "pg_class"),
		column("regtype", "integer"),
		column("regproc", "now"),
		column("real", "3.4028235e+38", "NaN", "-Infinity"),
		column("double precision", "1.7976931348623157e+308", "NaN", "0.1"),
		column("numeric", "12345678901234567890.123456789012345678901", "NaN", "Infinity"),
		column("numeric(8,2)", "123456.78", "1.005"),
		column("money", "12345.67", "-92233720368547758.08"),
		column("json", `{"b": 1, "a": 1499366092322157987, "b": 2}`, "null", `"x"`),
		column("jsonb", `{"a": 1499366092322157987, "b": [1.50, null]}`, "null", `"x"`),
		column("jsonpath", "$.a[*]"),
		column("xml", "<a>1</a>"),
		column("date", "2024-02-29", "0044-03-15 BC", "5874897-12-31", "infinity"),
		column("time", "24:00:00", "12:34:56.789012"),
		column("timetz", "12:34:56.789012+05:30"),
		column("timestamp", "2024-02-29 12:34:56.789012", "4713-01-01 00:00:00 BC", "-infinity"),
		column("timestamp(0)", "2024-02-29 12:34:56.789012"),
		column("timestamptz", "2024-02-29 12:34:56.789012+05:30", "294276-12-31 23:59:59.999999+00", "infinity"),
		column("timestamptz(0)", "2024-02-29 12:34:56.789012+05:30"),
		column("interval", "1 mon 2 days 03:04:05.6", "-178000000 years", "00:00:01.5"),
		column("uuid", id, "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"),
		column("inet", "10.0.0.1", "fe80::1/64"),
		column("cidr", "10.0.0.0/8"),
		column("macaddr", "08:00:2b:01:02:03"),
		column("macaddr8", "08:00:2b:01:02:03:04:05"),
		column("bit(3)", "101"),
		column("varbit", "10110"),
		column("point", "(1,2.5)"),
		column("line", "{1,2,3}"),
		column("lseg", "[(1,2),(3,4)]"),
		column("box", "(3,4),(1,2)"),
		column("path", "((1,2),(3,4))", "[(1,2),(3,4)]"),
		column("polygon", "((1,2),(3,4),(5,6))"),
		column("circle", "<(1,2),3>"),
		column("pg_lsn", "16/B374D848"),
		column("tsvector", "'a':1A 'b':2"),
		column("tsquery", "'a' & !'b'"),
		column("int4range", "[1,5)", "empty", "(,)"),
		column("int8range", "[1,5)"),
		column("numrange", "[1.5,)"),
		column("tsrange", `["2024-01-01 00:00:00",infinity]`),
		column("tstzrange", `["2024-01-01 00:00:00+00",)`),
		column("daterange", "[2024-01-01,2024-02-01)"),
		column("floatspan", "[1.5,2.5]"),
		column("int4multirange", "{[1,5),[7,9)}", "{}"),
		column("tstzmultirange", `{["2024-01-01 00:00:00+00",)}`),
	}
}

// otherTypes returns arrays, enums, composite types, domains and types of extensions.
func otherTypes() []Column {
	return []Column{
		column("smallint[]", "{1,NULL}"),
		column("integer[]", "{1,NULL}", "{}", "{{1,2},{3,4}}", "[0:1]={1,2}"),
		column("bigint[]", "{1,9223372036854775807}"),
		column("real[]", "{0.1,NaN}"),
		column("double precision[]", "{0.1,-Infinity}"),
		column("numeric[]", "{1.50,NaN}"),
		column("boolean[]", "{t,f}"),
		column("text[]", `{a,NULL,"NULL","","a,b\"\\"}`, "{}"),
		column("varchar(3)[]", "{abc}"),
		column("bytea[]", `{"\\x00ff"}`),
		column("uuid[]", "{"+id+"}"),
		column("date[]", "{2024-02-29}"),
		column("timestamptz[]", `{"2024-02-29 12:34:56+00"}`),
		column("interval[]", `{"1 mon"}`),
		column("inet[]", "{10.0.0.1}"),
		column("jsonb[]", `{"{\"a\": 1}"}`),
		column("money[]", "{1.50}"),
		column("status", "happy", "unknown"),
		column("status[]", "{sad,happy}"),
		column("pair", `(1,"a b")`, "(,b)", "(,)"),
		column("pair[]", `{"(1,a)"}`),
		domain("d_int", "int4", "7"),
		domain("d_text", "text", "word", "refused"),
		domain("d_date", "date", "2024-02-29"),
		domain("d_of_date", "date", "2024-02-29"),
		domain("d_timestamptz", "timestamptz", "2024-02-29 12:34:56.789012+05:30"),
		domain("d_numeric", "numeric(8,2)", "1.005"),
		domain("d_jsonb", "jsonb", `{"a": 1}`),
		domain("d_uuid", "uuid", id),
		domain("d_money", "money", "12345.67"),
		domain("d_texts", "text[]", "{a,b}"),
		domain("d_int[]", "int4[]", "{1,2}"),
		domain("d_date[]", "date[]", "{2024-02-29}"),
		domain("d_status", "status", "sad"),
		extension("citext", "citext", "Word"),
		extension("citext", "citext[]", "{Word}"),
		extension("hstore", "hstore", `"a"=>"1", "b"=>NULL`),
		extension("ltree", "ltree", "top.science"),
	}
}

// IsNoBits reports whether a value for a column of bits is a driver.Valuer with another text. pgx makes bits of any text, and a
// repository refuses it.
func (c Column) IsNoBits(value any) bool {
	valuer, ok := value.(driver.Valuer)
	if !ok || !strings.Contains(c.Base, "bit") || reflect.ValueOf(value).Kind() == reflect.Pointer && reflect.ValueOf(value).IsNil() {
		return false
	}
	content, _ := valuer.Value()
	text, ok := content.(string)
	return ok && strings.Trim(text, "01") != ""
}
