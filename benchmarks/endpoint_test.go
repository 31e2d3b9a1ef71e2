package benchmarks_test

import (
	"testing"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// BenchmarkEndpointString compares masking the password with returning the string.
func BenchmarkEndpointString(b *testing.B) {
	endpoint := pgfx.Endpoint{URL: "postgres://app:secret@db.example.com:5432/app?sslmode=verify-full"}
	b.Run("raw", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = endpoint.URL
		}
	})
	b.Run("masked", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = endpoint.String()
		}
	})
}
