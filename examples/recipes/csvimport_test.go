package recipes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/examples/recipes"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestImportProducts_NamesTheLineOfEachRefusedRow(t *testing.T) {
	t.Parallel()
	products := newProducts(t)
	file, err := recipes.OpenProducts(strings.NewReader("sku,name,cents\n" +
		"kb,\"Key\nboard\",8900\n" + // lines 2 and 3
		"ms,Mouse,cheap\n" +
		"kb,Again,1\n" +
		"zz,Nul\x00,1\n" +
		"tp,Touchpad,4900\n" +
		"tb,Trackball,-1\n"))
	require.NoError(t, err)
	stored, refused, err := recipes.ImportProducts(t.Context(), products, file)
	require.NoError(t, err)
	assert.EqualValues(t, 2, stored)
	require.Len(t, refused, 4)
	require.ErrorContains(t, refused[0], "line 4: ")
	require.ErrorContains(t, refused[1], "line 5: ")
	require.ErrorIs(t, refused[1], repo.ErrConstraint)
	require.ErrorContains(t, refused[2], "line 6: ")
	require.ErrorIs(t, refused[2], repo.ErrValue)
	require.ErrorContains(t, refused[3], "line 8: ")
	require.ErrorIs(t, refused[3], repo.ErrConstraint)
}

func TestImportProducts_WrongFileStoresNothing(t *testing.T) {
	t.Parallel()
	products := newProducts(t)
	for name, text := range map[string]string{
		"unreadable prices": "kb,Keyboard,8900\n" + strings.Repeat("ms,Mouse,cheap\n", 101),
		"refused prices":    "kb,Keyboard,8900\n" + strings.Repeat("ms,Mouse,-1\n", 101),
		"a missing column":  "kb,Keyboard,8900\nms,3900\n",
	} {
		file, err := recipes.OpenProducts(strings.NewReader(fmt.Sprint("sku,name,cents\n", text)))
		require.NoError(t, err)
		_, _, err = recipes.ImportProducts(t.Context(), products, file)
		require.Error(t, err, name)
		n, err := products.Count(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n, name)
	}
}
