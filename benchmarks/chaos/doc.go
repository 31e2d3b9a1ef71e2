// Package chaos is the fault suite: applications of several processes work on a real cluster while faults strike at random.
// Afterwards the suite compares the results that the applications got with what is stored. The tests run a short form.
// docs/reliability.md describes the suite and has the reports of long runs:
//
//	make chaos SECONDS=60 SEED=1
package chaos
