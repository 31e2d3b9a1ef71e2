package embedded_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestOptions_AreValidated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		opts []embedded.Option
	}{
		{"setting \"work mem\": not the name of a server setting", []embedded.Option{embedded.Setting("work mem", "1")}},
		{"setting \"\": not the name", []embedded.Option{embedded.Setting("", "1")}},
		{"setting port is controlled by this package: use TCP, which selects a free port", []embedded.Option{embedded.Setting("PORT", "1")}},
		{"setting listen_addresses is controlled by this package: use TCP", []embedded.Option{embedded.Setting("listen_addresses", "*")}},
		{"setting work_mem: the value contains a zero byte", []embedded.Option{embedded.Setting("work_mem", "1\x00")}},
		{"setting work_mem is given twice with different values", []embedded.Option{embedded.Setting("work_mem", "1"), embedded.Setting("Work_Mem", "2")}},
		{"persistent: the directory is empty", []embedded.Option{embedded.Persistent("")}},
		{"persistent is given twice, as /a and as /b", []embedded.Option{embedded.Persistent("/a"), embedded.Persistent("/b")}},
		{"temp dir is given twice, as /a and as /b", []embedded.Option{embedded.TempDir("/a"), embedded.TempDir("/b")}},
		{`remove when orphaned: refusing to remove ""`, []embedded.Option{embedded.RemoveWhenOrphaned("")}},
		{`remove when orphaned: refusing to remove "/"`, []embedded.Option{embedded.RemoveWhenOrphaned("/a", "/")}},
		{"temp dir: the directory is empty", []embedded.Option{embedded.TempDir("")}},
		{"logger is nil", []embedded.Option{embedded.Logger(nil)}},
		{"logger is nil\nsetting port", []embedded.Option{embedded.Logger(nil), embedded.Setting("port", "1")}},
	} {
		_, err := embedded.Start(t.Context(), c.opts...)
		require.ErrorContains(t, err, "embedded: "+c.want)
		_, err = embedded.Shared(t.Context(), c.opts...)
		require.ErrorContains(t, err, "embedded: "+c.want)
		assert.Equal(t, 1, strings.Count(err.Error(), "embedded: "))
	}
}

func TestOptions_MayBeRepeatedWithTheSameValue(t *testing.T) {
	t.Parallel()
	opts := []embedded.Option{embedded.Setting("work_mem", "5MB"), embedded.Persistent("x"), nil}
	_, err := embedded.NewServer(append(opts, opts...)...)
	require.NoError(t, err)
}

func TestSetting_ErrorsNeverPrintValues(t *testing.T) {
	t.Parallel()
	_, err := embedded.NewServer(
		embedded.Setting("primary_conninfo", "password=hunter2"), embedded.Setting("primary_conninfo", "password=hunter3"))
	require.ErrorContains(t, err, "setting primary_conninfo is given twice")
	assert.NotContains(t, err.Error(), "hunter")
}

func TestShared_RejectsRemoveWhenOrphaned(t *testing.T) {
	t.Parallel()
	_, err := embedded.Shared(t.Context(), embedded.RemoveWhenOrphaned("/a"))
	require.ErrorContains(t, err, "embedded: shared: RemoveWhenOrphaned needs a server with one owner")
}
