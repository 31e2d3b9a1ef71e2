package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// maxAttempts limits the requests for one archive. Only a connection that broke after it had sent data is worth another one.
	maxAttempts = 5
	// maxChecksumFile is in bytes.
	maxChecksumFile = 4 << 10
)

// checksumPattern finds the checksum in the output of sha256sum, shasum and certutil, and in the files of Maven repositories.
var checksumPattern = regexp.MustCompile(`\b[0-9a-fA-F]{64}\b`)

// downloader downloads the archive of a source.
type downloader struct {
	source *Source
	client *http.Client
	log    *zap.Logger
}

// download completes the file part, which may hold the beginning of the archive already, and verifies its checksum.
func (d downloader) download(ctx context.Context, part string) error {
	want, err := d.checksum(ctx)
	if err != nil {
		return err
	}
	if got, err := checksumOf(part); err == nil && got == want {
		return nil
	}
	for attempt := 1; ; attempt++ {
		received, fromStart, err := d.receive(ctx, part)
		if err != nil {
			if received == 0 || attempt == maxAttempts || ctx.Err() != nil {
				return d.interrupted(part, err)
			}
			continue
		}
		got, err := checksumOf(part)
		if err != nil || got == want {
			return err
		}
		if err := os.Remove(part); err != nil {
			return err
		}
		if fromStart || attempt == maxAttempts {
			return fmt.Errorf("%s has the checksum %s instead of %s: the file was changed on its way (by a proxy?) or is damaged in the repository; try again, or name another repository in %s",
				d.source.archive.Redacted(), got, want, EnvRepository)
		}
		// The beginning came from an earlier download of another file.
	}
}

// interrupted adds to err how much was received.
func (d downloader) interrupted(part string, err error) error {
	info, statErr := os.Stat(part)
	if statErr != nil || info.Size() == 0 {
		return err
	}
	return fmt.Errorf("%w; %.1f MB were received, and the next start continues there", err, megabytes(info.Size()))
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

// checksum returns the archive's SHA-256 checksum from the repository.
func (d downloader) checksum(ctx context.Context) (string, error) {
	location := *d.source.archive
	location.Path += ".sha256"
	response, err := d.get(ctx, location.String(), 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxChecksumFile))
	if err != nil {
		return "", explain(fmt.Errorf("%s: %w", location.Redacted(), err))
	}
	found := checksumPattern.FindString(string(text))
	if found == "" {
		return "", fmt.Errorf("%s is not a SHA-256 checksum but begins with %.40q: does the network answer with a login page, or is %s the URL of a page instead of a repository?",
			location.Redacted(), text, EnvRepository)
	}
	return strings.ToLower(found), nil
}

func checksumOf(file string) (string, error) {
	content, err := os.Open(filepath.Clean(file))
	if err != nil {
		return "", err
	}
	defer func() { _ = content.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// receive appends the rest of the archive to part. fromStart reports that the file began in this call.
func (d downloader) receive(ctx context.Context, part string) (received int64, fromStart bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	file, err := os.OpenFile(filepath.Clean(part), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	offset, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, err
	}
	response, err := d.get(ctx, d.source.URL(), offset)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = response.Body.Close() }()
	if !continues(response, offset) {
		if err := file.Truncate(0); err != nil {
			return 0, false, err
		}
		if offset, err = file.Seek(0, io.SeekStart); err != nil {
			return 0, false, err
		}
	}
	stalled := time.AfterFunc(d.source.stallTimeout, func() {
		cancel(fmt.Errorf("no data for %s: %w", d.source.stallTimeout, os.ErrDeadlineExceeded))
	})
	defer stalled.Stop()
	p := &progress{downloader: d, done: offset, remaining: response.ContentLength, stalled: stalled}
	p.begin(part)
	received, err = io.Copy(io.MultiWriter(file, p), response.Body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return received, offset == 0, explain(fmt.Errorf("%s: %w", d.source.archive.Redacted(), err))
	}
	return received, offset == 0, nil
}

// continues reports whether a response continues a file of offset bytes.
func continues(response *http.Response, offset int64) bool {
	return offset > 0 && response.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))
}

// progress logs how far a download is. It writes lines, so they can be read in a file and behind a pipe too.
type progress struct {
	downloader

	done int64
	// remaining is -1 if the repository doesn't report it.
	remaining int64
	// stalled fires if no data arrives.
	stalled *time.Timer
	logged  time.Time
}

// begin logs the start at level warn, because the program will run foreign binaries and its start takes longer.
func (p *progress) begin(part string) {
	p.logged = time.Now()
	p.log.Warn("no PostgreSQL on this machine: downloading server binaries",
		append(p.fields(), zap.String("url", p.source.archive.Redacted()), zap.String("dir", filepath.Dir(part)))...)
}

func (p *progress) fields() []zap.Field {
	fields := []zap.Field{zap.Float64("received_mb", megabytes(p.done))}
	if p.remaining >= 0 {
		fields = append(fields, zap.Float64("total_mb", megabytes(p.done+p.remaining)))
	}
	return fields
}

// Write counts data that was received.
func (p *progress) Write(data []byte) (int, error) {
	p.stalled.Reset(p.source.stallTimeout)
	p.done += int64(len(data))
	if p.remaining >= 0 {
		p.remaining -= int64(len(data))
	}
	if time.Since(p.logged) >= p.source.progressInterval {
		p.logged = time.Now()
		p.log.Info("downloading server binaries", p.fields()...)
	}
	return len(data), nil
}
