package awsauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// awsConfig loads the SDK's configuration once, when it is first needed. A failure is not kept.
type awsConfig struct {
	given *aws.Config
	skew  clockSkew

	mu     sync.Mutex
	loaded *aws.Config
}

func (c *awsConfig) load(ctx context.Context) (aws.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil {
		return *c.loaded, nil
	}
	var loaded aws.Config
	if c.given != nil {
		loaded = c.given.Copy()
		loaded.APIOptions = append(loaded.APIOptions, c.skew.observe)
	} else {
		var err error
		loaded, err = config.LoadDefaultConfig(ctx, config.WithAPIOptions([]func(*middleware.Stack) error{c.skew.observe}))
		if err != nil {
			return aws.Config{}, fmt.Errorf("awsauth: load the AWS configuration: %w", err)
		}
	}
	c.loaded = &loaded
	return loaded, nil
}

// credentials returns the AWS credentials. The SDK caches them until they expire.
func (c *awsConfig) credentials(ctx context.Context) (aws.Credentials, error) {
	loaded, err := c.load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	if loaded.Credentials == nil {
		return aws.Credentials{}, errors.New("awsauth: the AWS configuration has no credentials")
	}
	credentials, err := loaded.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("awsauth: get AWS credentials: %w", err)
	}
	return credentials, nil
}

// clockSkew is how far the local clock is ahead of AWS, as seen in the last response of an AWS service.
type clockSkew struct {
	known atomic.Bool
	ahead atomic.Int64 // nanoseconds
}

// observe makes a client record the skew.
func (s *clockSkew) observe(stack *middleware.Stack) error {
	read := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if response, ok := out.RawResponse.(*smithyhttp.Response); ok {
			if date, parseErr := http.ParseTime(response.Header.Get("Date")); parseErr == nil {
				s.ahead.Store(int64(time.Since(date)))
				s.known.Store(true)
			}
		}
		return out, metadata, err //nolint:wrapcheck // the SDK's own
	}
	err := stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("rdsfxClockSkew", read), middleware.After)
	if err != nil {
		return fmt.Errorf("awsauth: observe the clock of AWS: %w", err)
	}
	return nil
}

// get returns the skew, or false if no AWS service has answered yet.
func (s *clockSkew) get() (ahead time.Duration, known bool) {
	return time.Duration(s.ahead.Load()).Round(time.Second), s.known.Load()
}
