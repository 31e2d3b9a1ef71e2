// Package awsauth logs in to RDS, Aurora, RDS Proxy and Aurora DSQL with credentials of AWS instead of a password in the
// configuration:
//
//		fx.New(rdsfx.Module, awsauth.ProvideIAM(), ...)
//
//	  - [IAM]: a token of IAM database authentication for each connection.
//	  - [DSQL]: the same for Aurora DSQL.
//	  - [SecretsManager]: user, password and address from a secret, also while it is rotated.
//
// Each of them has a function whose name begins with Provide, for Fx. Without Fx, pass the option to pgfx.Open.
//
// The AWS credentials come from the SDK's default chain: environment variables, shared files, web identity (IRSA), the
// container's or the instance's role. [WithAWSConfig] replaces the chain.
//
// # Tokens
//
// Signing a token is local work of some microseconds, so each connection has its own. A token is sent only through TLS: without
// TLS, connecting fails before anything is sent. If the server refuses a token, the error of pgfx
// describes it: its host, region, user, time and key, and what differs from the connection.
//
// # Rotation
//
// If the server refuses the password of a secret, the secret is read once for all connections, and connecting continues with
// the new password. The application is not restarted. [SecretsManager] describes the limits.
package awsauth
