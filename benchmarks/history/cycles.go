package history

import (
	"fmt"
	"maps"
	"slices"
)

// graph has for each transaction those that must come after it.
type graph []map[int]bool

func newGraph(n int) graph {
	g := make(graph, n)
	for i := range g {
		g[i] = make(map[int]bool)
	}
	return g
}

func (g graph) add(from, to int) {
	if from != to {
		g[from][to] = true
	}
}

// and returns a graph with the edges of both.
func (g graph) and(other graph) graph {
	both := newGraph(len(g))
	for i := range g {
		maps.Copy(both[i], g[i])
		maps.Copy(both[i], other[i])
	}
	return both
}

// then returns a graph with the edges of g, and those that lead along an edge of g and one of next.
func (g graph) then(next graph) graph {
	composed := newGraph(len(g))
	for i := range g {
		for j := range g[i] {
			composed[i][j] = true
			for k := range next[j] {
				composed[i][k] = true // a cycle if i is k
			}
		}
	}
	return composed
}

// dependencies returns the dependencies between committed transactions: of writes (ww), reads (wr) and anti-dependencies (rw).
func (c *checker) dependencies() (ww, wr, rw graph) {
	ww, wr, rw = newGraph(len(c.txns)), newGraph(len(c.txns)), newGraph(len(c.txns))
	for _, list := range c.stored {
		for i := 1; i < len(list); i++ {
			ww.add(c.writer[list[i-1]], c.writer[list[i]])
		}
	}
	for i := range c.txns {
		for key, reads := range c.txns[i].reads {
			list := c.stored[key]
			for _, n := range reads {
				if n > 0 {
					wr.add(c.writer[list[n-1]], i)
				}
				if n < len(list) {
					rw.add(i, c.writer[list[n]])
				}
			}
		}
	}
	return ww, wr, rw
}

// cycles returns a cycle for each group of transactions that depend on each other, of the first kind that applies.
func (c *checker) cycles() []Anomaly {
	ww, wr, rw := c.dependencies()
	information := ww.and(wr)
	kinds := []struct {
		kind   Kind
		level  Level
		cyclic graph
	}{
		{WriteCycle, ReadCommitted, ww},
		{InformationCycle, ReadCommitted, information},
		{SnapshotCycle, RepeatableRead, information.then(rw)},
		{WriteSkew, Serializable, information.and(rw)},
	}
	for _, k := range kinds {
		if c.level < k.level {
			break
		}
		var found []Anomaly
		for _, component := range k.cyclic.components() {
			cycle := k.cyclic.cycle(component)
			a := Anomaly{Kind: k.kind, Detail: fmt.Sprintf("%d transactions depend on each other", len(component))}
			for _, i := range cycle {
				a.Txns = append(a.Txns, c.txns[i].ID)
			}
			found = append(found, a)
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// components returns the strongly connected components that have a cycle (Tarjan, 1972).
func (g graph) components() [][]int {
	var (
		found      [][]int
		stack      []int
		onStack    = make([]bool, len(g))
		index, low = make([]int, len(g)), make([]int, len(g))
		next       = 1
		visit      func(i int)
	)
	visit = func(i int) {
		index[i], low[i] = next, next
		next++
		stack, onStack[i] = append(stack, i), true
		for j := range g[i] {
			if index[j] == 0 {
				visit(j)
				low[i] = min(low[i], low[j])
			} else if onStack[j] {
				low[i] = min(low[i], index[j])
			}
		}
		if low[i] != index[i] {
			return
		}
		at := slices.Index(stack, i)
		component := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, j := range component {
			onStack[j] = false
		}
		if len(component) > 1 || g[i][i] {
			found = append(found, component)
		}
	}
	for i := range g {
		if index[i] == 0 {
			visit(i)
		}
	}
	return found
}

// cycle returns a shortest cycle through the first transaction of a component.
func (g graph) cycle(component []int) []int {
	start := slices.Min(component)
	previous := map[int]int{}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		for _, j := range slices.Sorted(maps.Keys(g[queue[0]])) {
			if j == start {
				path := []int{queue[0]}
				for path[len(path)-1] != start {
					path = append(path, previous[path[len(path)-1]])
				}
				slices.Reverse(path)
				return path
			}
			if _, seen := previous[j]; !seen && slices.Contains(component, j) {
				previous[j] = queue[0]
				queue = append(queue, j)
			}
		}
	}
	return nil
}
