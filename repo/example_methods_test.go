package repo_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// exampleBooks starts a server and returns a repository of the table books, which has three rows. With Fx, repo.Provide does that.
func exampleBooks(ctx context.Context) (books *repo.Repository[Book, int64], tx *txn.Manager, stop func()) {
	db, stop, err := exampleDB(ctx)
	if err != nil {
		panic(err)
	}
	if tx, err = txn.NewManager(db); err != nil {
		panic(err)
	}
	if books, err = repo.New[Book, int64](tx, "books", repo.OnConflict("isbn")); err != nil {
		panic(err)
	}
	err = books.CreateMany(ctx, []Book{
		{ISBN: "1", Title: "A Discipline of Programming", Copies: 2},
		{ISBN: "2", Title: "The Art of Computer Programming", Copies: 1},
		{ISBN: "3", Title: "Structured Programming", Copies: 0},
	})
	if err != nil {
		panic(err)
	}
	return books, tx, stop
}

func ExampleRepository_Find() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	found, err := books.Find(ctx,
		repo.Contains("title", "Programming"), repo.Gt("copies", 0), // all filters must match
		repo.Desc("copies"), repo.Limit(10))
	for _, book := range found {
		fmt.Println(book.Copies, book.Title)
	}
	fmt.Println(err)
	// Output:
	// 2 A Discipline of Programming
	// 1 The Art of Computer Programming
	// <nil>
}

func ExampleRepository_Update() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	mine, _ := books.Get(ctx, 1)
	theirs, _ := books.Get(ctx, 1)
	mine.Copies++
	fmt.Println(books.Update(ctx, mine), mine.Version)
	theirs.Copies++
	fmt.Println(errors.Is(books.Update(ctx, theirs), repo.ErrStale)) // the column option version is an optimistic lock
	fmt.Println(books.Delete(ctx, 1))
	_, err := books.Get(ctx, 1)
	fmt.Println(errors.Is(err, repo.ErrNotFound))
	// Output:
	// <nil> 2
	// true
	// <nil>
	// true
}

func ExampleRepository_Page() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	for cursor := ""; ; { // a client sends back the cursor of the page that it has
		page, err := books.Page(ctx, cursor, 2, repo.Asc("title"))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(page.Rows), page.Rows[0].Title)
		if cursor = page.Next; cursor == "" {
			return
		}
	}
	// Output:
	// 2 A Discipline of Programming
	// 1 The Art of Computer Programming
}

func ExampleRepository_UpsertMany() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx) // created with repo.OnConflict("isbn")
	defer stop()

	results, err := books.UpsertMany(ctx, []Book{
		{ISBN: "3", Title: "Structured Programming", Copies: 4},
		{ISBN: "4", Title: "Selected Writings on Computing", Copies: 1},
	})
	fmt.Println(results[0], results[1], err)
	// Output: updated inserted <nil>
}

func ExampleBatch() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	var batch repo.Batch
	first := books.In(&batch).First(repo.Eq("isbn", "2"))
	available := books.In(&batch).Count(repo.Gt("copies", 0))
	if err := batch.Send(ctx); err != nil { // one round trip
		fmt.Println(err)
		return
	}
	book, err := first.Value()
	fmt.Println(book.Title, err)
	fmt.Println(available.Value())
	// Output:
	// The Art of Computer Programming <nil>
	// 2 <nil>
}

func ExampleRepository_CopyMany() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	rows := make([]Book, 10_000)
	for i := range rows {
		rows[i] = Book{ISBN: fmt.Sprintf("copy-%d", i), Title: "A copy", Copies: 1}
	}
	fmt.Println(books.CopyMany(ctx, rows)) // by COPY: all rows or none, and the structs are not filled
	// Output: 10000 <nil>
}

func ExampleRepository_Import() {
	ctx := context.Background()
	books, _, stop := exampleBooks(ctx)
	defer stop()

	feed := func(yield func(Book, error) bool) { // for example the rows of a CSV file
		for i, copies := range []int{1, -1, 1} {
			if !yield(Book{ISBN: fmt.Sprintf("import-%d", i), Title: "Imported", Copies: copies}, nil) {
				return
			}
		}
	}
	n, err := books.Import(ctx, feed, repo.OnRowError(func(err error) error {
		fmt.Println("skipped:", err)
		return nil // an error would stop the import
	}))
	fmt.Println(n, err)
	// Output:
	// skipped: repo: check constraint books_copies_check of books violated by the row at index 1
	// 2 <nil>
}

func ExampleQuery() {
	ctx := context.Background()
	_, tx, stop := exampleBooks(ctx)
	defer stop()

	type stock struct {
		Available bool
		Titles    int
	}
	rows, err := repo.Query[stock](ctx, tx, "select copies > $1 as available, count(*) as titles from books group by 1 order by 1", 0)
	fmt.Println(rows, err)
	// Output: [{false 1} {true 2}] <nil>
}
