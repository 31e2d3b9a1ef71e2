package chaos_test

import (
	"time"
)

// fault is one kind of failure. run returns when the failure has ended.
type fault struct {
	name string
	run  func(s *scene)
}

// faultList lists the faults that strike at random. The lost commits of scene.heal happen all the time, and each scene has
// one failover.
var faultList = []fault{
	{"server killed (-9) and restarted", func(s *scene) {
		s.writer.Kill()
		s.hold(100*time.Millisecond, 2*time.Second)
		s.writer.Restart()
	}},
	{"server frozen and continued", func(s *scene) {
		s.writer.Freeze()
		s.hold(500*time.Millisecond, 4*time.Second)
		s.writer.Thaw()
	}},
	{"connections cut", func(s *scene) { s.proxy().ResetConnections() }},
	{"connections cut, none accepted", func(s *scene) {
		s.proxy().RefuseNew()
		s.proxy().ResetConnections()
		s.hold(100*time.Millisecond, 2*time.Second)
		s.heal()
	}},
	{"half-open, transactions open", func(s *scene) { s.proxy().BlackHole() }},
	{"black hole, healed", func(s *scene) {
		s.proxy().BlackHoleAll()
		s.hold(500*time.Millisecond, 4*time.Second)
		s.heal()
	}},
	{"slow network", func(s *scene) {
		s.proxy().Slow(time.Duration(1+s.random.IntN(40))*time.Millisecond, 1<<20)
		s.hold(500*time.Millisecond, 2*time.Second)
		s.heal()
	}},
	{"server full (53300)", func(s *scene) {
		s.proxy().RefuseNew()
		s.proxy().ResetConnections()
		s.writer.TerminateBackends()
		release := s.writer.FillConnections()
		s.heal()
		s.hold(500*time.Millisecond, 2*time.Second)
		release()
	}},
	{"backends terminated", func(s *scene) { s.writer.TerminateBackends() }},
	{"password rotated, published late", func(s *scene) {
		s.writer.RotatePassword()
		s.writer.TerminateBackends()
		s.hold(100*time.Millisecond, time.Second)
		s.publishPassword(s.writer.URL())
	}},
	{"application killed (-9)", func(s *scene) { s.replace(s.processes[0]) }},
}

// walFull is a fault for scenes in which the disk for WAL can be filled.
var walFull = fault{"disk for WAL full", func(s *scene) {
	release := s.writer.FillWAL()
	s.hold(100*time.Millisecond, 2*time.Second)
	release()
	s.writer.Restart()
}}

// failover is the way in which the standby of a scene becomes the writer.
type failover int

const (
	// failoverLossless kills the primary, which has replicated synchronously.
	failoverLossless failover = iota
	// failoverLossy kills a primary from which the standby was disconnected, so acknowledged commits are lost.
	failoverLossy
	// failoverDemoted makes the primary read-only and keeps its sessions, as when a cloud demotes a writer.
	failoverDemoted
	failovers
)

func (f failover) String() string {
	return [...]string{"failover, no WAL lost", "failover, WAL lost", "writer demoted, standby promoted"}[f]
}

// fault returns the failover as a fault. The name of the writer moves late, after the promotion.
func (f failover) fault() fault {
	return fault{f.String(), func(s *scene) {
		old := s.writer
		switch f {
		case failoverLossy:
			s.cluster.DisconnectStandby(true)
			s.hold(200*time.Millisecond, time.Second)
			s.cluster.KillPrimary()
		case failoverDemoted:
			s.demote()
		default:
			s.cluster.KillPrimary()
		}
		s.hold(100*time.Millisecond, time.Second)
		s.cluster.Promote()
		s.hold(500*time.Millisecond, 2*time.Second) // DNS is late
		s.writer = s.cluster.Standby()
		s.heal()
		s.publishAddress()
		if f == failoverDemoted {
			s.hold(time.Second, 2*time.Second)
			old.Kill() // or the plain pool would stay there
		}
	}}
}

// demote makes the primary read-only and waits until transactions that began before have ended and are replicated.
func (s *scene) demote() {
	s.Helper()
	s.cluster.Demote()
	began := queryValue[time.Time](s, s.writer.URL(), "select clock_timestamp()")
	const open = `from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() and xact_start <= $1`
	for queryValue[int](s, s.writer.URL(), "select count(*) filter (where pg_terminate_backend(pid)) "+open, began) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	ctx, cancel := serverContext()
	defer cancel()
	if err := s.cluster.AwaitReplay(ctx); err != nil {
		s.Fatal(err)
	}
}
