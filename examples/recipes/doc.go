// Package recipes is the code of recipes in docs/cookbook.md, which its tests run.
package recipes

// Product is a row of the table products.
type Product struct {
	SKU   string `db:"sku,pk" json:"sku"`
	Name  string `db:"name" json:"name"`
	Cents int64  `db:"cents" json:"cents"`
}

// ProductsTable creates the table products.
const ProductsTable = `create table products (
	sku text primary key check (sku <> ''), name text not null, cents bigint not null check (cents >= 0))`
