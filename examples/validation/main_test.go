package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestValidation_ReportsAllColumns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	fxtest.New(t, fxtest.Fx(options(&out)))
	assert.Equal(t, `created: ada@example.com
repo: invalid row for rdsfx_validation.accounts at index 1: seats: a free plan has one seat
Key: 'Account.email' Error:Field validation for 'email' failed on the 'email' tag
Key: 'Account.name' Error:Field validation for 'name' failed on the 'required' tag
- email: rule email
- name: rule required
`, out.String())
}
