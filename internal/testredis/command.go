package testredis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// do sends one command of words without blanks and returns its reply, which must be a string (Redis serialization protocol, inline
// commands).
func (s *Server) do(ctx context.Context, words ...string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, s.network, s.address)
	if err != nil {
		return "", err //nolint:wrapcheck // it names the operation and the address
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, strings.Join(words, " ")+"\r\n"); err != nil {
		return "", err
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", err //nolint:wrapcheck // a test's connection
	}
	kind, text := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '-':
		return "", errors.New(text)
	case '$':
		size, err := strconv.Atoi(text)
		if err != nil {
			return "", err
		}
		bulk := make([]byte, size)
		_, err = io.ReadFull(reader, bulk)
		return string(bulk), err
	case '+':
		return text, nil
	}
	return "", fmt.Errorf("%s: unexpected reply %q", words[0], line)
}
