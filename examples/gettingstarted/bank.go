// docs: bank.go

package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Account is a row of the table accounts.
type Account struct {
	ID        uuid.UUID `db:"id,pk,default"      json:"id"`
	Owner     string    `db:"owner"              json:"owner"`
	Cents     int64     `db:"cents"              json:"cents"`
	CreatedAt time.Time `db:"created_at,created" json:"created_at"`
}

// ErrOverdrawn is returned for a transfer that the account does not cover.
var ErrOverdrawn = errors.New("the account does not cover this amount")

// Bank keeps accounts in the database.
type Bank struct {
	accounts *repo.Repository[Account, uuid.UUID]
	tx       *txn.Manager
}

// NewBank is called by Fx.
func NewBank(accounts *repo.Repository[Account, uuid.UUID], tx *txn.Manager) *Bank {
	return &Bank{accounts: accounts, tx: tx}
}

// bankModule provides a *Bank. It needs rdsfx.Module.
var bankModule = fx.Module("bank",
	repo.Provide[Account, uuid.UUID]("accounts", repo.MapConstraint("accounts_not_overdrawn", ErrOverdrawn)),
	fx.Provide(NewBank),
)

// Open creates an account.
func (b *Bank) Open(ctx context.Context, owner string, cents int64) (*Account, error) {
	account := &Account{Owner: owner, Cents: cents}
	err := b.accounts.Create(ctx, account) // fills ID and CreatedAt
	return account, err
}

// Get returns an account, or repo.ErrNotFound.
func (b *Bank) Get(ctx context.Context, id uuid.UUID) (*Account, error) {
	return b.accounts.Get(ctx, id)
}

// Transfer moves cents between two accounts. It is committed as a whole or not at all. Two opposite transfers may deadlock. The server
// ends one of them, and Retry repeats it. Under load, avoid that: change the account with the smaller ID first.
func (b *Bank) Transfer(ctx context.Context, from, to uuid.UUID, cents int64) error {
	return b.tx.Do(ctx, func(ctx context.Context) error {
		if _, err := b.accounts.Patch(ctx, from, []repo.Change{repo.SetExpr("cents", "cents - $1", cents)}); err != nil {
			return err
		}
		_, err := b.accounts.Patch(ctx, to, []repo.Change{repo.SetExpr("cents", "cents + $1", cents)})
		return err
	}, txn.Retry(pgfx.RetryPolicy{}))
}

// docs: end
