// Package faults makes networks and PostgreSQL servers fail on demand, for tests of how an application handles it.
//
//	func TestRetriesAfterReset(t *testing.T) {
//		proxy := faults.NewProxy(t, fxtest.URL(t))
//		app := fxtest.New(t, fxtest.At(proxy.URL()))
//		proxy.ResetConnections()
//		...
//	}
//
// The constructors return independent parts that can be combined:
//
//   - [NewProxy] returns a TCP proxy with network faults: resets, black holes, latency, limited bandwidth, refused
//     connections, and the loss of a COMMIT or of its acknowledgement. [NewTCPProxy] does so for other servers, such as Redis.
//   - [NewServer] starts a server that only this test uses, so the test may kill, stop, freeze or fill it, fill its disk
//     for WAL, make it read-only, change its password or its certificate.
//   - [NewCluster] starts a primary and a streaming standby that can be promoted, disconnected or paused.
//   - [NewResolver] returns a host name whose server can be changed, like the DNS name of a cloud endpoint.
//
// Everything is stopped and removed at the end of the test. Methods that fail end the test, as t.Fatal does.
package faults
