package main

// wakeups has a value when there may be new jobs.
type wakeups <-chan struct{}

func newWakeups() wakeups { return nil }
