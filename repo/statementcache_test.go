package repo_test

import (
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestAStatementThatWasWrittenBeforeIsTheSameString(t *testing.T) {
	t.Parallel()
	var texts repo.Texts
	first := texts.Text("select 1")
	assert.Equal(t, "select 1", first)
	assert.Same(t, unsafe.StringData(first), unsafe.StringData(texts.Text("select 1")))
	made := texts.Made("key", func() string { return "select 2" })
	assert.Equal(t, "select 2", made)
	assert.Equal(t, "select 2", texts.Made("key", func() string { return "another" }))
	assert.Equal(t, "select 1", texts.Text("select 1"))
}

func TestManyStatementsStayApartForManyGoroutines(t *testing.T) {
	t.Parallel()
	var texts repo.Texts
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 4 * repo.KnownTexts {
				text := strconv.Itoa(i)
				assert.Equal(t, text, texts.Text(text))
				assert.Equal(t, "made "+text, texts.Made("m"+text, func() string { return "made " + text }))
			}
		})
	}
	all.Wait()
}
