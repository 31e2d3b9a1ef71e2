package aurora

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
)

// poller reads the view of one instance, each time it is poked, on a connection that it keeps. It reports the loss of the
// connection at once.
type poller struct {
	target  target
	read    func(ctx context.Context, db querier) (view, error)
	connect func(ctx context.Context) (*pgx.Conn, error)
	answers chan<- answer
	stop    context.CancelFunc

	mu      sync.Mutex
	poked   bool
	endWait context.CancelFunc
}

// targetKind is what a poller connects to.
type targetKind int

const (
	targetOwn      targetKind = iota // the DB's own address, as DNS resolves it
	targetInstance                   // an instance endpoint
	targetGreen                      // an endpoint of the green side
	targetDNS                        // a host of a DB, to see where DNS leads
	targetRouted                     // where the DB's connections go during a switchover
)

// target identifies a poller: name is an instance for targetInstance, and a host for targetGreen and targetDNS.
type target struct {
	kind targetKind
	name string
}

// instance returns the instance whose view the target has, "" if that is not fixed.
func (t target) instance() string {
	if t.kind == targetInstance {
		return t.name
	}
	return ""
}

// targetOf returns the target of an instance, or of the DB's own address if id is "".
func targetOf(id string) target {
	if id == "" {
		return target{kind: targetOwn}
	}
	return target{targetInstance, id}
}

// poke makes the poller read the view now, or as soon as it has the answer that it waits for.
func (p *poller) poke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poked = true
	if p.endWait != nil {
		p.endWait()
	}
}

// run reads the view once, and after each poke, until ctx ends.
func (p *poller) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { p.close(ctx, conn) }()
	for ctx.Err() == nil {
		v, err := p.poll(ctx, &conn)
		result := answer{target: p.target, polled: p.target.instance(), view: v, err: err}
		if conn != nil {
			result.address = conn.PgConn().Conn().RemoteAddr().String()
		}
		if conn != nil && p.target.kind == targetDNS { // the next poll has to resolve the name again
			p.close(ctx, conn)
			conn = nil
		}
		p.send(ctx, result)
		p.wait(ctx, &conn)
	}
}

// poll reads the view. An error closes the connection.
func (p *poller) poll(ctx context.Context, conn **pgx.Conn) (view, error) {
	if *conn == nil {
		opened, err := p.connect(ctx)
		if err != nil {
			return view{}, err
		}
		*conn = opened
	}
	v, err := p.read(ctx, *conn)
	if err != nil {
		p.close(ctx, *conn)
		*conn = nil
	}
	return v, err
}

// wait waits for a poke or the end of ctx. It listens on the connection meanwhile, so it notices when that is lost.
func (p *poller) wait(ctx context.Context, conn **pgx.Conn) {
	waitCtx, endWait := context.WithCancel(ctx)
	defer endWait()
	p.mu.Lock()
	p.endWait = endWait
	if p.poked {
		endWait()
	}
	p.mu.Unlock()
	for *conn != nil && waitCtx.Err() == nil {
		_, err := (*conn).WaitForNotification(waitCtx)
		if err == nil || waitCtx.Err() != nil && !(*conn).IsClosed() { // a notification is of no interest
			continue
		}
		p.close(ctx, *conn)
		*conn = nil
		p.send(ctx, answer{target: p.target, polled: p.target.instance(), err: errors.Join(errLost, err)})
	}
	<-waitCtx.Done()
	p.mu.Lock()
	p.endWait, p.poked = nil, false
	p.mu.Unlock()
}

var errLost = errors.New("aurora: the connection to the instance was lost")

func (p *poller) send(ctx context.Context, result answer) {
	select {
	case p.answers <- result:
	case <-ctx.Done():
	}
}

func (p *poller) close(ctx context.Context, conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is given up: its error does not matter
}
