// How a figure is taken: in chunks, the 20th percentile of their means (src/sampler.rs). Each
// operation starts with a collected heap; collections that it causes are inside the clock, as wall
// time. In the counting mode allocations are counted.

package main

import (
	"encoding/json"
	"os"
	"runtime"
	"sort"
	"strings"
	"time"
)

type scale struct {
	quick                                     bool
	chunks, reads, writes, scans, loads, held int
}

func newScale(quick bool) scale {
	if quick {
		return scale{quick, 10, 1_000, 100, 3, 1, 2_000}
	}
	return scale{quick, 40, 5_000, 1_000, 10, 3, 100_000}
}

type sample struct {
	Op        string  `json:"op"`
	N         int     `json:"n"`
	Engine    string  `json:"engine"`
	Allocator string  `json:"allocator"`
	Unit      string  `json:"unit"`
	Value     float64 `json:"value"`
}

type sampler struct {
	n        int
	variant  string
	ops      []string
	counting bool
	samples  []sample
	sink     uint64
}

func (s *sampler) wants(op string) bool {
	group := op
	if s.counting && !strings.Contains(op, "/") {
		group = "allocs"
	}
	group = strings.Split(group, "/")[0]
	for _, asked := range s.ops {
		if asked == op || asked == group {
			return true
		}
	}
	return len(s.ops) == 0
}

func (s *sampler) wantsAny(ops ...string) bool {
	for _, op := range ops {
		if s.wants(op) {
			return true
		}
	}
	return false
}

func (s *sampler) record(op, unit string, value float64) {
	s.samples = append(s.samples, sample{op, s.n, "memdb", s.variant, unit, value})
}

// better gives op the value of other where that is less.
func (s *sampler) better(op, other string) {
	for i := range s.samples {
		for j := range s.samples {
			at, from := &s.samples[i], &s.samples[j]
			if at.Op == op && from.Op == other && from.Value < at.Value {
				at.Value = from.Value
			}
		}
	}
}

func (s *sampler) print() {
	for _, line := range s.samples {
		must(json.NewEncoder(os.Stdout).Encode(line))
	}
}

func (s *sampler) measure(op string, chunks, calls, units int, body func(at int)) {
	if !s.wants(op) {
		return
	}
	done := float64(calls * units)
	chunk := func(at int) {
		for call := at * calls; call < (at+1)*calls; call++ {
			body(call)
		}
	}
	if s.counting {
		last := 0
		if chunks > 1 {
			chunk(0)
			last = 1
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		chunk(last)
		runtime.ReadMemStats(&after)
		s.record("allocs/"+op, "allocations", float64(after.Mallocs-before.Mallocs)/done)
		s.record("allocs/"+op+"/bytes", "bytes", float64(after.TotalAlloc-before.TotalAlloc)/done)
		return
	}
	// What earlier operations left is not this one's to collect.
	runtime.GC()
	means := make([]float64, chunks)
	for at := range means {
		start := time.Now()
		chunk(at)
		means[at] = float64(time.Since(start).Nanoseconds()) / done
	}
	s.record(op, "ns", figure(means))
}

func figure(means []float64) float64 {
	sort.Float64s(means)
	return means[(len(means)-1)/5]
}

// liveBytes is what is reachable now.
func liveBytes() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
