package txn

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Set sets a setting of the server for the transaction, as SET LOCAL does, for example the tenant of a row-level security policy:
//
//	err := tx.Do(ctx, work, txn.Set("app.tenant_id", tenant))
//
// The value is sent as a parameter together with BEGIN and costs no round trip. It ends with the transaction, so the next user of
// the connection never has it, also behind a transaction pooler. If a name is set twice, the later value applies.
//
// name is that of a custom setting, which contains a dot, or of a setting that the user may change, such as search_path or role. It
// isn't case-sensitive. Settings with a dedicated option, such as statement_timeout, are refused. If the server refuses
// the setting, Do returns the server's error and doesn't call its closure.
//
// A Do joins a running transaction only if that transaction has the same value for name. Otherwise it returns an
// [*OptionMismatchError], which doesn't show the values. A transaction of [RequiresNew] needs its own Set.
//
// A policy should read the setting with nullif(current_setting('app.tenant_id', true), ”). Without Set, the result is null, and
// the policy hides all rows. Without nullif, it is null in a new session and the empty string later (PostgreSQL manual,
// "Customized Options").
func Set(name, value string) Option {
	return Option{func(s *settings) error {
		key := strings.ToLower(name)
		if !settingName.MatchString(key) {
			return fmt.Errorf("txn: Set(%q): not the name of a setting; use letters, digits and _, as in app.tenant_id", name)
		}
		if alternative, reserved := reservedSettings[key]; reserved {
			return fmt.Errorf("txn: Set(%q): use %s", name, alternative)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("txn: Set(%q): the value contains a zero byte; remove it", name)
		}
		s.values = &settingValue{name: key, value: value, earlier: s.values}
		return nil
	}}
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$`)

// reservedSettings are the settings that other options control, each with its option.
var reservedSettings = map[string]string{
	"statement_timeout":                   "StatementTimeout or WithinDeadline",
	"lock_timeout":                        "LockTimeout",
	"idle_in_transaction_session_timeout": "IdleTimeout",
	"transaction_isolation":               "Isolation",
	"transaction_read_only":               "ReadOnly or ReadWrite",
	"transaction_deferrable":              "Deferrable",
}

// settingValue is an element of a list of settings, the latest first. A list is never changed, so copies of options share it.
type settingValue struct {
	name, value string
	earlier     *settingValue
}

// lookup returns the latest value for a name.
func (v *settingValue) lookup(name string) (value string, set bool) {
	for ; v != nil; v = v.earlier {
		if v.name == name {
			return v.value, true
		}
	}
	return "", false
}

// names returns each name once, in the order of the calls of Set.
func (v *settingValue) names() []string {
	var names []string
	for ; v != nil; v = v.earlier {
		if !slices.Contains(names, v.name) {
			names = append(names, v.name)
		}
	}
	slices.Reverse(names)
	return names
}

// mismatch returns an error if wanted has another value for a setting than v, the list of the running transaction.
func (v *settingValue) mismatch(wanted *settingValue) error {
	for _, name := range wanted.names() {
		want, _ := wanted.lookup(name)
		running, set := v.lookup(name)
		switch {
		case !set:
			return &OptionMismatchError{Option: "value of " + name, Running: "none", Wanted: "that of this call"}
		case running != want:
			return &OptionMismatchError{Option: "value of " + name, Running: "a different one", Wanted: "that of this call"}
		}
	}
	return nil
}

// queue adds the statement that sets the settings to a batch.
func (v *settingValue) queue(batch *pgx.Batch) {
	names := v.names()
	values := make([]string, len(names))
	for i, name := range names {
		values[i], _ = v.lookup(name)
	}
	batch.Queue("select set_config(name, value, true) from unnest($1::text[], $2::text[]) as s(name, value)", names, values)
}
