package embedded

import (
	"context"
	"os"
	"sync"

	"go.uber.org/zap"
)

// InProcess makes a server whose keeper is a goroutine of this process instead of a process: what a keeper does can then be seen from
// inside. Terminate is the signal that ends it.
func InProcess(s *Server) (terminate chan<- os.Signal) {
	signals := make(chan os.Signal, 1)
	s.launch = func(sp spec, log *zap.Logger) (*keeperProcess, error) {
		ordersRead, ordersWrite, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		eventsRead, eventsWrite, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		routine := &childRoutine{}
		routine.ended.Go(func() {
			keep(ordersRead, eventsWrite, signals)
			_ = eventsWrite.Close()
			_ = ordersRead.Close()
		})
		return followKeeper(routine, ordersWrite, eventsRead, sp, log), nil
	}
	return signals
}

type childRoutine struct{ ended sync.WaitGroup }

func (c *childRoutine) kill()  {}
func (c *childRoutine) leave() {}

func (c *childRoutine) wait() string {
	c.ended.Wait()
	return "returned"
}

// SpawnProgram makes the server use another executable for its keeper.
func SpawnProgram(s *Server, program string) {
	s.launch = func(sp spec, log *zap.Logger) (*keeperProcess, error) { return spawnProgram(program, sp, log) }
}

// Orphan lets the server's keeper believe that this process has ended.
func Orphan(s *Server) { s.current().release() }

// Reason tells why the server's keeper has ended.
func Reason(s *Server) string {
	<-s.current().done
	return s.current().reason()
}

// ShareInProcess is Shared with a keeper in this process.
func ShareInProcess(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	server, err := newServer(ctx, o, os.Getenv)
	if err != nil {
		return nil, err
	}
	InProcess(server)
	err = server.meet(ctx, goneLimit, o)
	return server, err
}

// GuardPanic returns what a keeper reports that panics.
func GuardPanic() string {
	k := &keeper{}
	_, err := k.guard(func() (shutdown, error) { panic("on purpose") })
	return err.Error()
}

// Orphaned is a server whose keeper is dead.
type Orphaned struct {
	Data         string
	PID, Segment int
	Ended        <-chan struct{}
	Kill         func()
}

// LeaveOrphan starts a server in base, with its data in data if that isn't empty, and takes its keeper away.
func LeaveOrphan(ctx context.Context, base, data string) (Orphaned, error) {
	server, err := newServer(ctx, options{tempDir: base}, os.Getenv)
	if err != nil {
		return Orphaned{}, err
	}
	s := server.spec
	if data != "" {
		s.Data = data
	}
	held, err := makeDir(s)
	if err != nil {
		return Orphaned{}, err
	}
	defer func() { _ = held.lock.Close() }()
	if err := os.Mkdir(s.Data, 0o700); err != nil {
		return Orphaned{}, err
	}
	if err := (cluster{install: s.Install, user: s.User, caches: s.Caches}).create(ctx, s.Data); err != nil {
		return Orphaned{}, err
	}
	log, err := openLog(logFile(s.Dir))
	if err != nil {
		return Orphaned{}, err
	}
	running, err := startPostgres(s, log)
	if err != nil {
		return Orphaned{}, err
	}
	note, err := readPIDFile(s.Data)
	for ctx.Err() == nil && (err != nil || note.status != "ready") {
		note, err = readPIDFile(s.Data)
	}
	kill := func() { running.stop(stopPlan{}); cleanUp(s.Data); log.close() }
	return Orphaned{Data: s.Data, PID: running.pid(), Segment: note.segment, Ended: running.done, Kill: kill}, err
}

// Sweep removes what dead keepers left in base.
func Sweep(base string) { sweep(base) }

// NewName makes a name for the directory of a server of this user.
func NewName() string { return newName(os.Geteuid()) }

// NoCache makes the server run initdb itself.
func NoCache(s *Server) { s.spec.Caches = nil }

// MeetingFile returns one of the files by which those find each other who want a server with these options, in a directory that is
// there already.
func MeetingFile(ctx context.Context, kind string, opts ...Option) (string, error) {
	o, err := collect(opts)
	if err != nil {
		return "", err
	}
	server, err := newServer(ctx, o, os.Getenv)
	if err != nil {
		return "", err
	}
	m, err := newMeeting(o, server.spec)
	if err != nil {
		return "", err
	}
	return m.path(kind), privateDir(m.Dir, 0o077)
}
