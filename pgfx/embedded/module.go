package embedded

import (
	"context"
	"os"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Module provides a [pgfx.Endpoint] and a [*Server]; put it in front of rdsfx.Module. The server starts and stops with the
// application, and only when one of the two is asked for. Options come from [ProvideOptions].
var Module = fx.Module("embedded", fx.Provide(New))

// With gives options to [Module]. It may be used several times and anywhere in the application.
func ProvideOptions(opts ...Option) fx.Option {
	return fx.Supply(fx.Annotate(opts, fx.ResultTags(`group:"embedded.options,flatten"`)))
}

// Params is what [New] needs.
type Params struct {
	fx.In

	// Lifecycle starts and stops the server; without one the caller does.
	Lifecycle fx.Lifecycle `optional:"true"`
	// Logger is used unless an option gives another one.
	Logger  *zap.Logger `optional:"true"`
	Options []Option    `group:"embedded.options"`
}

// Result is what [New] makes.
type Result struct {
	fx.Out

	Server   *Server
	Endpoint pgfx.Endpoint
}

// New decides which server to use and leaves starting it to the lifecycle. It only looks: when it returns there is no process, no
// directory and no socket, so that an application that fails to be built leaves nothing behind. Without Fx, [Server.Start] and
// [Server.Stop] take the place of the lifecycle.
//
// When DATABASE_URL is set the Endpoint is zero and the Server does nothing.
func New(p Params) (Result, error) {
	return build(p, os.Getenv)
}

func build(p Params, env lookup) (Result, error) {
	o, err := collect(p.Options)
	if err != nil {
		return Result{}, err
	}
	if !o.logs && p.Logger != nil {
		o.logger = p.Logger.Named("embedded")
	}
	if env(EnvDatabaseURL) != "" {
		return Result{Server: &Server{aside: true, log: o.logger, turn: make(chan struct{}, 1)}}, nil
	}
	server, err := newServer(context.Background(), o, env)
	if err != nil {
		return Result{}, err
	}
	if p.Lifecycle != nil {
		// Start cleans up after itself when it fails, in which case Fx doesn't call Stop.
		p.Lifecycle.Append(fx.StartStopHook(server.Start, server.Stop))
	}
	return Result{Server: server, Endpoint: server.Endpoint()}, nil
}
