package recipes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/examples/recipes"
)

func TestListProducts_ServesPages(t *testing.T) {
	t.Parallel()
	products := newProducts(t)
	var rows []recipes.Product
	for i := range 250 {
		rows = append(rows, recipes.Product{SKU: fmt.Sprintf("%03d", i), Name: "Key", Cents: int64(i / 2)})
	}
	require.NoError(t, products.CreateMany(t.Context(), rows))
	handler := recipes.ListProducts(products)
	get := func(query string) (status int, skus []string, next string) {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/products?"+query, nil))
		var page struct {
			Items []recipes.Product `json:"items"`
			Next  string            `json:"next"`
		}
		if w.Code == http.StatusOK {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		}
		for _, product := range page.Items {
			skus = append(skus, product.SKU)
		}
		return w.Code, skus, page.Next
	}

	_, skus, next := get("max_cents=1&limit=3")
	assert.Equal(t, []string{"000", "001", "002"}, skus)
	_, skus, end := get("max_cents=1&limit=3&cursor=" + url.QueryEscape(next))
	assert.Equal(t, []string{"003"}, skus)
	assert.Empty(t, end)
	for limit, size := range map[string]int{"": 50, "0": 1, "-1": 1, "1000": 200} {
		_, skus, _ = get("limit=" + limit)
		assert.Len(t, skus, size, limit)
	}
	for _, query := range []string{"cursor=damaged", "limit=many", "max_cents=cheap"} {
		status, _, _ := get(query)
		assert.Equal(t, http.StatusBadRequest, status, query)
	}
}
