// Package jobservice compares examples/jobservice with the same endpoints written on plain pgx and on GORM. Its tests check that all
// three give the same responses, and its benchmark sends requests to them from another process:
//
//	make bench-jobservice
package jobservice
