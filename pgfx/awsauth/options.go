package awsauth

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

// TokenOption configures [IAM] and [DSQL].
type TokenOption interface{ applyToken(s *tokenSettings) }

// SecretOption configures [SecretsManager].
type SecretOption interface{ applySecret(s *secretSettings) }

// Option configures every function of this package.
type Option interface {
	TokenOption
	SecretOption
}

// settings are common to all functions.
type settings struct {
	database string
	region   string
	aws      *aws.Config
}

type tokenSettings struct {
	settings

	endpoint string
}

type secretSettings struct {
	settings

	ttl    time.Duration
	logger *zap.Logger
}

type option func(*settings)

func (o option) applyToken(s *tokenSettings)   { o(&s.settings) }
func (o option) applySecret(s *secretSettings) { o(&s.settings) }

type tokenOption func(*tokenSettings)

func (o tokenOption) applyToken(s *tokenSettings) { o(s) }

type secretOption func(*secretSettings)

func (o secretOption) applySecret(s *secretSettings) { o(s) }

// WithDatabase selects the database, as rdsfx.ModuleFor names it. Default: "", the default database.
func WithDatabase(name string) Option { return option(func(s *settings) { s.database = name }) }

// WithRegion sets the AWS region. Default: the region in the host name of the database or in the ARN of the secret. Without one
// it is the region of the AWS configuration (AWS_REGION, shared files).
func WithRegion(region string) Option { return option(func(s *settings) { s.region = region }) }

// WithAWSConfig sets the SDK's configuration, with its credentials. Default: the SDK's default chain, loaded when the first
// connection is opened.
func WithAWSConfig(config aws.Config) Option { return option(func(s *settings) { s.aws = &config }) }

// WithEndpoint sets the host for which tokens are made, optionally with its port, for example "db.abc.eu-west-1.rds.amazonaws.com:5432".
// Use it if the application connects to another name or through a tunnel, because AWS accepts only the name of the endpoint itself.
// Default: the server name of the TLS connection, and its port.
func WithEndpoint(endpoint string) TokenOption {
	return tokenOption(func(s *tokenSettings) { s.endpoint = endpoint })
}

// WithTTL sets the age at which a secret is read again in the background. Default: 1 h. Values below 1 min are raised to it.
func WithTTL(ttl time.Duration) SecretOption {
	return secretOption(func(s *secretSettings) { s.ttl = ttl })
}

// WithLogger sets the logger for changes of a secret and failures to read it. Default: no log. With [ProvideSecretsManager] the
// default is the application's *zap.Logger.
func WithLogger(logger *zap.Logger) SecretOption {
	return secretOption(func(s *secretSettings) { s.logger = logger })
}
