package awsauth_test

import (
	"context"
	"fmt"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/awsauth"
)

// docs: iam
func NewIAMApp(yours ...fx.Option) *fx.App {
	return fx.New(
		fx.Options(yours...),
		rdsfx.Module,
		fx.Supply(pgfx.Config{
			Host: "app.cluster-abc123.eu-west-1.rds.amazonaws.com", Username: "app", Database: "app",
			TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, CAFile: "/etc/ssl/rds"},
		}),
		awsauth.ProvideIAM(),
	)
}

// docs: end

// docs: secret
func NewSecretApp(yours ...fx.Option) *fx.App {
	return fx.New(
		fx.Options(yours...),
		rdsfx.Module,
		fx.Supply(pgfx.Config{TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, CAFile: "/etc/ssl/rds"}}),
		awsauth.ProvideSecretsManager("prod/app/db"), // user, password, host, port and database
	)
}

// docs: end

// docs: dsql
func NewDSQLApp(yours ...fx.Option) *fx.App {
	return fx.New(
		fx.Options(yours...),
		rdsfx.Module,
		fx.Supply(pgfx.Config{
			Host: "abc0def1.dsql.eu-west-1.on.aws", Username: "app", Database: "postgres",
			TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull}, // a public authority issues its certificate
		}),
		awsauth.ProvideDSQL(),
	)
}

// docs: end

// docs: named
func NewReportingApp(yours ...fx.Option) *fx.App {
	return fx.New(
		fx.Options(yours...),
		rdsfx.Module, rdsfx.ModuleFor("reporting"), // DATABASE_HOST …, REPORTING_DATABASE_HOST …
		awsauth.ProvideIAM(),
		awsauth.ProvideIAM(awsauth.WithDatabase("reporting"), awsauth.WithRegion("us-east-1")),
	)
}

// docs: end

// docs: open
func openWithIAM(ctx context.Context, cfg pgfx.Config) (*rdsfx.Database, error) {
	db, err := rdsfx.Open(cfg, rdsfx.WithPool(awsauth.IAM()))
	if err != nil {
		return nil, err
	}
	err = db.Start(ctx)
	return db, err
}

// docs: end

func ExampleIAM() {
	db, err := pgfx.Open(pgfx.Config{
		Host: "app.cluster-abc123.eu-west-1.rds.amazonaws.com", Username: "app", Database: "app",
		TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull}, // and CAFile: the RDS CA bundle
	}, awsauth.IAM())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(db.Target())
	fmt.Println(db.Close(context.Background()))
	// Output:
	// app@app.cluster-abc123.eu-west-1.rds.amazonaws.com:5432/app
	// <nil>
}

func ExampleSecretsManager() {
	db, err := pgfx.Open(pgfx.Config{TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull}}, awsauth.SecretsManager("prod/app/db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(db.Target()) // the address is in the secret
	fmt.Println(db.Close(context.Background()))
	// Output:
	// secret "prod/app/db"
	// <nil>
}

var _ = []any{NewIAMApp, NewSecretApp, NewDSQLApp, NewReportingApp, openWithIAM} // compiled for the documents
