package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// walDir is the directory, in that of the server, on which the file system for WAL is mounted.
const walDir = "wal"

// LimitWAL moves the server's WAL to a memory file system of the given size, which [Server.FillWAL] can fill. The server is
// restarted. The size must exceed the server's max_wal_size by 100 MiB, because servers of this package keep WAL for standbys.
//
// Mounting requires Linux and root. Otherwise the error matches errors.ErrUnsupported, and the server is unchanged. If the process
// is killed, the next one that starts a server removes the file system.
func (s *Server) LimitWAL(bytes int64) error {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	dir := filepath.Join(s.dir, walDir)
	owner, err := os.Stat(s.server.DataDir())
	if err == nil {
		err = mountMemory(dir, bytes, owner)
	}
	if err != nil {
		return fmt.Errorf("faults: limit WAL: %w", err)
	}
	s.walMounted = true
	wal, moved := filepath.Join(s.server.DataDir(), "pg_wal"), filepath.Join(dir, "pg_wal")
	ctx, cancel := withFaultTimeout()
	defer cancel()
	if err := errors.Join(
		s.stopLocked(), copyTree(wal, moved), os.RemoveAll(wal), os.Symlink(moved, wal), s.server.Start(ctx),
	); err != nil {
		s.tb.Fatalf("faults: limit WAL: %v", err)
	}
	return nil
}

// FillWAL fills the disk for WAL, so the server cannot write the next WAL segment and crashes. It returns when the server has
// exited. Call [Server.LimitWAL] first, and release and [Server.Restart] afterwards. release may be called more than once.
func (s *Server) FillWAL() (release func()) {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.walMounted {
		s.tb.Fatal("faults: fill WAL: call LimitWAL first")
	}
	filler := filepath.Join(s.dir, walDir, "filler")
	if err := fillDisk(filler); err != nil {
		s.tb.Fatalf("faults: fill WAL: %v", err)
	}
	ctx, cancel := withFaultTimeout()
	defer cancel()
	for s.server.PID() != 0 && ctx.Err() == nil {
		s.switchWAL(ctx)
	}
	if s.server.PID() != 0 {
		s.tb.Fatal("faults: fill WAL: the server is still running")
	}
	_ = s.server.Stop(ctx) // waits for cleanup; its error is that the server has exited
	return func() { _ = os.Remove(filler) }
}

// switchWAL makes the server begin another WAL segment. Its errors are those of the crash.
func (s *Server) switchWAL(ctx context.Context) {
	conn, err := s.session(ctx, nil)
	if err != nil {
		return
	}
	defer closeSessions(conn)
	for err == nil {
		_, err = conn.Exec(ctx, "select pg_logical_emit_message(false, 'filler', $1), pg_switch_wal()", rand.Text())
	}
}

// fillDisk writes a file until no space is left.
func fillDisk(path string) error {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = file.Write(block)
	}
	if !isDiskFull(err) {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}
