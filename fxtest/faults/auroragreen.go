package faults

// The names of the green side.
const (
	greenID          = "app-1-green-abc123"
	greenClusterHost = "app-green-abc123.cluster-" + auroraZone
)

// AuroraGreen is the green side of a Blue/Green deployment of an [Aurora]: one instance that follows the writer of the blue side. Its
// methods are the steps of a switchover in their order: Initiate, Begin, Finish, Rename, Complete. The methods of the Aurora keep
// returning the servers of the blue side.
//
// It differs from AWS: the green side replicates physically, and its certificate does not change.
type AuroraGreen struct {
	aurora  *Aurora
	server  *Server
	status  string
	renamed bool
	// switched reports that the endpoints lead to the green side.
	switched bool
}

// NewGreen creates a Blue/Green deployment. It restarts the writer, so call it before clients connect.
func (a *Aurora) NewGreen() *AuroraGreen {
	a.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	writer := a.Server(a.Writer())
	g := &AuroraGreen{aurora: a, server: newStandbys(a.tb, writer, 1, a.options)[0], status: "AVAILABLE"}
	if err := g.server.awaitReplay(ctx, writer); err != nil {
		a.tb.Fatal(err)
	}
	a.dns.set(a.Host(greenID), hostOf(g.server))
	a.dns.set(greenClusterHost, hostOf(g.server))
	a.mu.Lock()
	a.green = g
	a.mu.Unlock()
	a.publish()
	return g
}

// Server returns the server of the green side.
func (g *AuroraGreen) Server() *Server { return g.server }

// rows returns what both sides report.
func (g *AuroraGreen) rows() []blueGreenRow {
	if g == nil {
		return nil
	}
	blue, green := []string{clusterHost, g.aurora.Host("app-1")}, []string{greenClusterHost, g.aurora.Host(greenID)}
	if g.renamed {
		blue, green = []string{"app-old1.cluster-" + auroraZone, g.aurora.Host("app-1-old1")}, blue
	}
	var list []blueGreenRow
	for i := range blue {
		list = append(list,
			blueGreenRow{blue[i], "BLUE_GREEN_DEPLOYMENT_SOURCE", g.status}, blueGreenRow{green[i], "BLUE_GREEN_DEPLOYMENT_TARGET", g.status})
	}
	return list
}

// publish writes what the functions of the green side return.
func (g *AuroraGreen) publish(rows []blueGreenRow) error {
	id := greenID
	if g.renamed {
		id = "app-1"
	}
	return g.server.writeAuroraAnswers(auroraAnswers{
		Self: id, BlueGreen: rows, Instances: []auroraInstance{{ID: id, Endpoint: g.aurora.Host(id), Writer: true, Region: "eu-west-1"}},
	})
}

// set changes the deployment and publishes it.
func (g *AuroraGreen) set(status string, change func()) {
	g.aurora.tb.Helper()
	g.aurora.mu.Lock()
	g.status = status
	change()
	g.aurora.mu.Unlock()
	g.aurora.publish()
}

// Initiate reports that a switchover was requested.
func (g *AuroraGreen) Initiate() {
	g.aurora.tb.Helper()
	g.set("SWITCHOVER_INITIATED", func() {})
}

// Begin begins the active phase: the blue writer becomes read-only and its sessions end with SQLSTATE 57P01.
func (g *AuroraGreen) Begin() {
	g.aurora.tb.Helper()
	g.set("SWITCHOVER_IN_PROGRESS", func() {})
	blue := g.aurora.Server(g.aurora.Writer())
	blue.ReadOnly(true)
	blue.TerminateBackends()
}

// Finish ends the active phase: the green side accepts writes. The endpoints lead to it after the lag ([Aurora.SetDNSLag]).
func (g *AuroraGreen) Finish() {
	a := g.aurora
	a.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	if err := g.server.awaitReplay(ctx, a.Server(a.Writer())); err != nil {
		a.tb.Fatal(err)
	}
	g.server.promote(ctx)
	g.set("SWITCHOVER_IN_POST_PROCESSING", func() { g.switched = true })
	for _, host := range []string{clusterHost, readerHost, a.Host("app-1")} {
		a.dns.set(host, hostOf(g.server))
	}
}

// Rename gives the green instance the name of the blue one, and removes its old names.
func (g *AuroraGreen) Rename() {
	g.aurora.tb.Helper()
	g.set("SWITCHOVER_IN_POST_PROCESSING", func() { g.renamed = true })
	g.aurora.dns.remove(g.aurora.Host(greenID), greenClusterHost)
}

// Complete reports that the switchover is complete.
func (g *AuroraGreen) Complete() {
	g.aurora.tb.Helper()
	g.set("SWITCHOVER_COMPLETED", func() {})
}

// Rollback cancels a switchover before Finish: the blue writer accepts writes again.
func (g *AuroraGreen) Rollback() {
	g.aurora.tb.Helper()
	g.aurora.Server(g.aurora.Writer()).ReadOnly(false)
	g.set("AVAILABLE", func() {})
}
