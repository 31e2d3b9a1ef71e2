package faults

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// AuroraKind is the kind of cluster that [NewAurora] simulates.
type AuroraKind int

const (
	// AuroraCluster has the functions of Aurora PostgreSQL.
	AuroraCluster AuroraKind = iota
	// AuroraMultiAZ has the functions of an RDS Multi-AZ DB cluster, in the schema rds_tools.
	AuroraMultiAZ
)

// AuroraConfig configures [NewAurora].
type AuroraConfig struct {
	// Instances is the number of servers, the writer included. Default: 2.
	Instances int
	// Kind is the kind of cluster. Default: AuroraCluster.
	Kind AuroraKind
	// Options are options for all servers.
	Options []embedded.Option
}

// auroraZone is the domain of all endpoints. Nothing resolves it but the cluster's own resolver.
const auroraZone = "fxtest123.eu-west-1.rds.amazonaws.com"

// Aurora simulates an Aurora cluster. Its servers replicate by streaming, their functions describe the cluster as those of AWS
// do, and a resolver for the endpoints can lag behind. Its instances are app-1, app-2 and so on; app-1 is the first
// writer. Clients need its [Aurora.Option] or [Aurora.BeforeConnect] to resolve the endpoints.
//
// It differs from Aurora: the servers have separate storage and replicate asynchronously, and they have no functions but those
// that describe the cluster.
//
// The methods may be called concurrently. They end the test on failure, as t.Fatal does.
type Aurora struct {
	tb   testing.TB
	kind AuroraKind
	dns  *lateDNS

	turn    sync.Mutex // held while the cluster changes
	mu      sync.Mutex // guards the fields that follow
	members []*auroraMember
	writer  string
	regions []string
	green   *AuroraGreen // nil without a Blue/Green deployment
	options []embedded.Option
}

type auroraMember struct {
	id     string
	server *Server
	down   bool
	lag    time.Duration
	region string
}

// NewAurora starts a cluster and returns when the readers have caught up. The servers are stopped and removed at the end of the
// test. The test is skipped in the same case as for [NewServer]. Starting takes about a second for each server.
func NewAurora(tb testing.TB, config AuroraConfig) *Aurora {
	tb.Helper()
	a := &Aurora{tb: tb, kind: config.Kind, dns: newLateDNS(auroraZone), writer: "app-1", options: config.Options}
	primary := NewServer(tb, config.Options...)
	ctx, cancel := withFaultTimeout()
	defer cancel()
	script := auroraStatusFunctions
	if config.Kind == AuroraMultiAZ {
		script = multiAZFunctions
	}
	primary.createAuroraFunctions(ctx, script)
	if config.Instances == 0 {
		config.Instances = 2
	}
	servers := append([]*Server{primary}, newStandbys(tb, primary, config.Instances-1, config.Options)...)
	for i, server := range servers {
		member := &auroraMember{id: "app-" + strconv.Itoa(i+1), server: server, region: "eu-west-1"}
		a.members = append(a.members, member)
		a.dns.set(a.Host(member.id), hostOf(server))
	}
	for _, standby := range servers[1:] {
		if err := standby.awaitReplay(ctx, primary); err != nil {
			tb.Fatal(err)
		}
	}
	a.publish()
	return a
}

// publish writes what the functions return, and points the cluster's endpoints to the present instances.
func (a *Aurora) publish() {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	suffix := ""
	if a.green != nil && a.green.renamed {
		suffix = "-old1"
	}
	answers := a.answersLocked(suffix)
	for _, member := range a.presentLocked() {
		answers.Self = member.id + suffix
		if err := member.server.writeAuroraAnswers(answers); err != nil {
			a.tb.Fatalf("faults: aurora: %v", err)
		}
	}
	if a.green != nil {
		if err := a.green.publish(answers.BlueGreen); err != nil {
			a.tb.Fatalf("faults: aurora: %v", err)
		}
	}
	if a.green == nil || !a.green.switched {
		a.pointEndpointsLocked()
	}
}

// answersLocked returns what the instances report. suffix is added to their names.
func (a *Aurora) answersLocked(suffix string) auroraAnswers {
	answers := auroraAnswers{Regions: a.regions, BlueGreen: a.green.rows()}
	for _, member := range a.members {
		if !member.down {
			answers.Instances = append(answers.Instances, auroraInstance{
				ID: member.id + suffix, Endpoint: a.Host(member.id + suffix), Writer: member.id == a.writer,
				LagMsec: float64(member.lag) / float64(time.Millisecond), Region: member.region,
			})
		}
	}
	return answers
}

// presentLocked returns the members whose server runs.
func (a *Aurora) presentLocked() []*auroraMember {
	return slices.DeleteFunc(slices.Clone(a.members), func(m *auroraMember) bool { return m.down || m.server == nil })
}

// pointEndpointsLocked points the endpoints to the present instances. While the writer is lost, its endpoint still leads to it.
func (a *Aurora) pointEndpointsLocked() {
	var writer, readers []string
	for _, member := range a.presentLocked() {
		if member.id == a.writer {
			writer = []string{hostOf(member.server)}
		} else {
			readers = append(readers, hostOf(member.server))
		}
	}
	if writer != nil {
		a.dns.set(clusterHost, writer...)
	}
	if readers == nil {
		readers = writer
	}
	if readers != nil {
		a.dns.set(readerHost, readers...)
	}
}

const (
	clusterHost = "app.cluster-" + auroraZone
	readerHost  = "app.cluster-ro-" + auroraZone
)

// hostOf returns the host and port of a server.
func hostOf(server *Server) string {
	u, err := url.Parse(server.URL())
	if err != nil {
		return ""
	}
	return u.Host
}

// Host returns the instance endpoint of an instance.
func (a *Aurora) Host(id string) string { return id + "." + auroraZone }

// URL returns the URL of the cluster endpoint, which leads to the writer.
func (a *Aurora) URL() string { return a.urlOf(clusterHost) }

// ReaderURL returns the URL of the reader endpoint, which leads to the readers in turn.
func (a *Aurora) ReaderURL() string { return a.urlOf(readerHost) }

// InstanceURL returns the URL of an instance endpoint.
func (a *Aurora) InstanceURL(id string) string { return a.urlOf(a.Host(id)) }

func (a *Aurora) urlOf(host string) string { return withAddress(a.Server("app-1").URL(), host+":5432") }

// Writer returns the ID of the present writer. While the writer is lost, it is that of the last one.
func (a *Aurora) Writer() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writer
}

// Server returns the server of an instance. Change its role and its life with the methods of Aurora.
func (a *Aurora) Server(id string) *Server {
	a.tb.Helper()
	return a.member(id).server
}

func (a *Aurora) member(id string) *auroraMember {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.members, func(m *auroraMember) bool { return m.id == id })
	if i < 0 {
		a.tb.Fatalf("faults: aurora: no instance %s", id)
	}
	return a.members[i]
}

// Option returns the option that makes all connections of a pgfx.DB resolve the endpoints.
func (a *Aurora) Option() pgfx.Option { return pgfx.WithBeforeConnect(a.BeforeConnect) }

// BeforeConnect makes a connection resolve the endpoints. Assign it to pgxpool.Config.BeforeConnect.
func (a *Aurora) BeforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	resolveIn(config, a.dns.lookup)
	return nil
}

// SetDNSLag sets how long the cluster and reader endpoints lead to their old instances after a change. Instance endpoints have no
// lag. Default: 0.
func (a *Aurora) SetDNSLag(lag time.Duration) { a.dns.setLag(lag) }

// UpdateDNS makes all endpoints lead to their present instances, whatever the lag.
func (a *Aurora) UpdateDNS() { a.dns.update() }

// Failover makes a reader the writer, and the old writer a reader. The old writer's sessions end with SQLSTATE 57P01, and no
// commit is lost.
func (a *Aurora) Failover(to string) {
	a.tb.Helper()
	old := a.Writer()
	a.Stop(old)
	a.Promote(to)
	a.Rejoin(old)
}

// Stop shuts an instance down, as a restart of AWS begins. A commit that the writer has acknowledged reaches the readers first.
func (a *Aurora) Stop(id string) {
	a.tb.Helper()
	a.end(id, (*Server).Stop)
}

// Kill kills an instance with SIGKILL. Commits that were not replicated are lost if a reader is promoted.
func (a *Aurora) Kill(id string) {
	a.tb.Helper()
	a.end(id, (*Server).Kill)
}

func (a *Aurora) end(id string, stop func(*Server)) {
	a.tb.Helper()
	a.turn.Lock()
	defer a.turn.Unlock()
	member := a.member(id)
	stop(member.server)
	a.mu.Lock()
	member.down = true
	a.mu.Unlock()
	a.publish()
}

// Promote makes a reader the writer, and the other readers follow it. Stop or kill the old writer first. It returns when
// the new writer accepts writes.
func (a *Aurora) Promote(id string) {
	a.tb.Helper()
	a.turn.Lock()
	defer a.turn.Unlock()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	promoted := a.member(id)
	promoted.server.promote(ctx)
	a.mu.Lock()
	a.writer = id
	followers := slices.DeleteFunc(a.presentLocked(), func(m *auroraMember) bool { return m == promoted })
	a.mu.Unlock()
	a.publish()
	for _, member := range followers {
		conninfo, err := promoted.server.standbyConninfo()
		if err != nil {
			a.tb.Fatalf("faults: aurora: %v", err)
		}
		member.server.exec(ctx, "alter system set primary_conninfo = "+literal(conninfo), "select pg_reload_conf()")
	}
}

// Rejoin starts an instance that was stopped. A reader continues. A former writer becomes a reader of the present one. It must
// have been stopped and not killed, because its data must be no newer than that of the writer.
func (a *Aurora) Rejoin(id string) {
	a.tb.Helper()
	a.turn.Lock()
	defer a.turn.Unlock()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	member, writer := a.member(id), a.Server(a.Writer())
	if member.server != writer {
		// The last setting counts, and the server reads this file after the other.
		if err := writer.configureStandby(member.server.server.DataDir(), "postgresql.auto.conf"); err != nil {
			a.tb.Fatalf("faults: aurora: rejoin %s: %v", id, err)
		}
	}
	a.mu.Lock()
	member.down = false
	a.mu.Unlock()
	a.publish() // the functions need the answers as soon as the server runs
	member.server.Restart()
	if member.server == writer {
		return
	}
	if err := member.server.awaitReplay(ctx, writer); err != nil {
		a.tb.Fatalf("faults: aurora: rejoin %s: %v", id, err)
	}
}

// SetLag sets the lag that the functions report for a reader. Replication is not delayed.
func (a *Aurora) SetLag(id string, lag time.Duration) {
	a.tb.Helper()
	member := a.member(id)
	a.mu.Lock()
	member.lag = lag
	a.mu.Unlock()
	a.publish()
}

// AddRegion makes the cluster part of a global database, with an instance in another Region that the functions report. The
// instance has no server.
func (a *Aurora) AddRegion(region, id string) {
	a.tb.Helper()
	a.mu.Lock()
	a.members = append(a.members, &auroraMember{id: id, region: region})
	if a.regions == nil {
		a.regions = []string{"eu-west-1"}
	}
	a.regions = append(a.regions, region)
	a.mu.Unlock()
	a.publish()
}

// String describes the cluster.
func (a *Aurora) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("cluster of %d instances, writer %s", len(a.members), a.writer)
}
