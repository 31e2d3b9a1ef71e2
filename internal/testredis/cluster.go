package testredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// slots is the number of hash slots of a cluster.
const slots = 16384

// Cluster is a Redis cluster without replicas.
type Cluster struct {
	Servers []*Server
}

// StartCluster runs a cluster of n servers on ports of 127.0.0.1, which share the hash slots, and returns when it accepts commands.
func StartCluster(ctx context.Context, n int) (_ *Cluster, err error) {
	c := &Cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	for i := range n {
		server, err := startNode(ctx)
		if err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, server)
		first, last := i*slots/n, (i+1)*slots/n-1
		if _, err := server.do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return nil, fmt.Errorf("assign hash slots: %w", err)
		}
	}
	for _, server := range c.Servers[1:] {
		host, port, _ := strings.Cut(c.Servers[0].address, ":")
		if _, err := server.do(ctx, "CLUSTER", "MEET", host, port, c.Servers[0].bus); err != nil {
			return nil, fmt.Errorf("join the cluster: %w", err)
		}
	}
	for _, server := range c.Servers {
		if err := server.awaitCluster(ctx, n); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// startNode runs a server of a cluster. It tries other ports if another process has taken one in the meantime.
func startNode(ctx context.Context) (server *Server, err error) {
	for range 3 {
		var port, bus string
		if port, err = freePort(ctx); err != nil {
			return nil, err
		}
		if bus, err = freePort(ctx); err != nil {
			return nil, err
		}
		server, err = start(ctx, func(string) (network, address string, listen []string) {
			return "tcp", "127.0.0.1:" + port, []string{"--bind", "127.0.0.1", "--port", port, "--cluster-enabled", "yes", "--cluster-port", bus}
		}, nil)
		if err == nil {
			server.bus = bus
			return server, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrNotInstalled) {
			return nil, err
		}
	}
	return nil, err
}

func freePort(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err //nolint:wrapcheck // it names the operation and the address
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// awaitCluster waits until the server has found n servers that cover all hash slots.
func (s *Server) awaitCluster(ctx context.Context, n int) error {
	for {
		info, err := s.do(ctx, "CLUSTER", "INFO")
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", n)) {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not complete: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// Addresses returns the host and port of each server.
func (c *Cluster) Addresses() []string {
	var addresses []string
	for _, server := range c.Servers {
		addresses = append(addresses, server.address)
	}
	return addresses
}

// Stop kills the servers and removes their data. It may be called again.
func (c *Cluster) Stop() error {
	var errs []error
	for _, server := range c.Servers {
		errs = append(errs, server.Stop())
	}
	return errors.Join(errs...)
}
