package recipes

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: pagination

// ListProducts responds to GET /products?max_cents=500&limit=20&cursor=… with a page of products, the cheapest first.
func ListProducts(products *repo.Repository[Product, string]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		limit, opts := 50, []repo.QueryOption{repo.Asc("cents")}
		if text := r.FormValue("limit"); text != "" {
			wanted, err := strconv.Atoi(text)
			if err != nil {
				http.Error(w, "limit must be an integer", http.StatusBadRequest)
				return
			}
			limit = min(max(wanted, 1), 200)
		}
		if text := r.FormValue("max_cents"); text != "" {
			cents, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				http.Error(w, "max_cents must be an integer", http.StatusBadRequest)
				return
			}
			opts = append(opts, repo.Lte("cents", cents))
		}
		page, err := products.Page(r.Context(), r.FormValue("cursor"), limit, opts...)
		switch {
		case errors.Is(err, repo.ErrCursor):
			http.Error(w, "the cursor is invalid: begin without one", http.StatusBadRequest)
		case err != nil:
			http.Error(w, "", txn.ErrorStatus(err))
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"items": page.Rows, "next": page.Next}) // an error: the client is gone
		}
	}
}

// docs: end
