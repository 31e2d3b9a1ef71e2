package aurora

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// poller reads the view of one instance, each time it is poked, on a connection that it keeps. It reports the loss of the
// connection at once.
type poller struct {
	polled  string       // the instance; "" for the DB's own address
	address pgfx.Address // its endpoint
	read    func(ctx context.Context, db querier) (view, error)
	connect func(ctx context.Context, to pgfx.Address) (*pgx.Conn, error)
	answers chan<- answer
	stop    context.CancelFunc

	mu      sync.Mutex
	poked   bool
	endWait context.CancelFunc
}

// poke makes the poller read the view now, or as soon as it has the answer that it waits for.
func (a *poller) poke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.poked = true
	if a.endWait != nil {
		a.endWait()
	}
}

// run reads the view once, and after each poke, until ctx ends.
func (a *poller) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { a.close(ctx, conn) }()
	for ctx.Err() == nil {
		v, err := a.poll(ctx, &conn)
		a.send(ctx, answer{polled: a.polled, view: v, err: err})
		a.wait(ctx, &conn)
	}
}

// poll reads the view. An error closes the connection.
func (a *poller) poll(ctx context.Context, conn **pgx.Conn) (view, error) {
	if *conn == nil {
		opened, err := a.connect(ctx, a.address)
		if err != nil {
			return view{}, err
		}
		*conn = opened
	}
	v, err := a.read(ctx, *conn)
	if err != nil {
		a.close(ctx, *conn)
		*conn = nil
	}
	return v, err
}

// wait waits for a poke or the end of ctx. It listens on the connection meanwhile, so it notices when that is lost.
func (a *poller) wait(ctx context.Context, conn **pgx.Conn) {
	waitCtx, endWait := context.WithCancel(ctx)
	defer endWait()
	a.mu.Lock()
	a.endWait = endWait
	if a.poked {
		endWait()
	}
	a.mu.Unlock()
	for *conn != nil && waitCtx.Err() == nil {
		_, err := (*conn).WaitForNotification(waitCtx)
		if err == nil || waitCtx.Err() != nil && !(*conn).IsClosed() { // a notification is of no interest
			continue
		}
		a.close(ctx, *conn)
		*conn = nil
		a.send(ctx, answer{polled: a.polled, err: errors.Join(errLost, err)})
	}
	<-waitCtx.Done()
	a.mu.Lock()
	a.endWait, a.poked = nil, false
	a.mu.Unlock()
}

var errLost = errors.New("aurora: the connection to the instance was lost")

func (a *poller) send(ctx context.Context, result answer) {
	select {
	case a.answers <- result:
	case <-ctx.Done():
	}
}

func (a *poller) close(ctx context.Context, conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is given up: its error does not matter
}
