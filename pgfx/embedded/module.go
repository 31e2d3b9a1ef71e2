package embedded

import (
	"os"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Module provides a [pgfx.Endpoint] and a [*Server] to an Fx application. The server starts and stops with the application, but
// only if one of the two is requested. Pass options with [ProvideOptions].
//
// Constructing the application creates no process, directory or socket. If DATABASE_URL is set, the Endpoint is zero and the
// Server does nothing.
var Module = fx.Module("embedded", fx.Provide(newForFx))

// ProvideOptions passes options to [Module]. It may be used several times and anywhere in the application.
func ProvideOptions(opts ...Option) fx.Option {
	return fx.Supply(fx.Annotate(opts, fx.ResultTags(`group:"embedded.options,flatten"`)))
}

type moduleParams struct {
	fx.In

	Lifecycle fx.Lifecycle
	Logger    *zap.Logger `optional:"true"`
	Options   []Option    `group:"embedded.options"`
}

type moduleResult struct {
	fx.Out

	Server   *Server
	Endpoint pgfx.Endpoint
}

func newForFx(p moduleParams) (moduleResult, error) { return newWithEnv(p, os.Getenv) }

func newWithEnv(p moduleParams, env postgres.Getenv) (moduleResult, error) {
	var logger *zap.Logger
	if p.Logger != nil {
		logger = p.Logger.Named("embedded")
	}
	o, err := applyOptions(p.Options, logger)
	if err != nil {
		return moduleResult{}, err
	}
	if env(EnvDatabaseURL) != "" {
		return moduleResult{Server: &Server{disabled: true, log: o.logger, lock: make(chan struct{}, 1)}}, nil
	}
	server, err := newServer(o, env)
	if err != nil {
		return moduleResult{}, err
	}
	// Fx doesn't call Stop if Start fails, but Start cleans up itself.
	p.Lifecycle.Append(fx.StartStopHook(server.Start, server.Stop))
	return moduleResult{Server: server, Endpoint: server.Endpoint()}, nil
}
