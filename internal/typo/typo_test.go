package typo_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/typo"
)

func TestNearest_FindsTheNameThatWasMeant(t *testing.T) {
	t.Parallel()
	names := []string{"id", "email", "name", "created_at", "created_by", "abcdefgh"}
	for misspelled, want := range map[string]string{
		"emial": "email", "emil": "email", "emaill": "email", "nme": "name", "naem": "name", "createdat": "created_at",
		"creatde_ta": "created_at", "created_a": "created_at", "created_y": "created_by", "badcfegh": "", "bacdegfh": "abcdefgh",
		"ip": "", "i": "", "": "", "phone": "", "nmea": "", "mail_e": "",
	} {
		assert.Equal(t, want, typo.Nearest(misspelled, names), misspelled)
	}
	assert.Equal(t, "email", typo.Nearest("email", names))
	assert.Empty(t, typo.Nearest("email", nil))
}
