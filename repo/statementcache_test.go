package repo_test

import (
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestStatementCache_ReturnsTheSameString(t *testing.T) {
	t.Parallel()
	var cache repo.Texts
	first := cache.Text("select 1")
	assert.Equal(t, "select 1", first)
	assert.Same(t, unsafe.StringData(first), unsafe.StringData(cache.Text("select 1")))
	made := cache.Made("key", func() string { return "select 2" })
	assert.Equal(t, "select 2", made)
	assert.Equal(t, "select 2", cache.Made("key", func() string { return "another" }))
	assert.Equal(t, "select 1", cache.Text("select 1"))
}

func TestStatementCache_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var cache repo.Texts
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 4 * repo.KnownTexts {
				text := strconv.Itoa(i)
				assert.Equal(t, text, cache.Text(text))
				assert.Equal(t, "made "+text, cache.Made("m"+text, func() string { return "made " + text }))
			}
		})
	}
	group.Wait()
}
