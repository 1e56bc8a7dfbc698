// The same keys, writes and probes as the other engines get (src/plan.rs).

package main

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sort"
)

const (
	statuses    = 5
	rowsPerNode = 100
)

type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9E3779B97F4A7C15
	word := r.state
	word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
	word = (word ^ (word >> 27)) * 0x94D049BB133111EB
	return word ^ (word >> 31)
}

func (r *random) below(bound int) int {
	high, _ := bits.Mul64(r.next(), uint64(bound))
	return int(high)
}

func (r *random) key() (k key) {
	binary.BigEndian.PutUint64(k[:8], r.next())
	binary.BigEndian.PutUint64(k[8:], r.next())
	return k
}

type plan struct {
	keys     []key
	status   []uint8
	random   random
	fresh    random
	sequence uint64
}

func newPlan(rows int) *plan {
	r := random{1}
	p := &plan{keys: make([]key, rows), status: make([]uint8, rows)}
	for i := range p.keys {
		p.keys[i] = r.key()
	}
	for i := range p.status {
		p.status[i] = uint8(r.below(statuses))
	}
	p.random, p.fresh = random{2}, random{3}
	return p
}

func (p *plan) writeAt(at int) write {
	nodes := (uint64(len(p.keys)) + rowsPerNode - 1) / rowsPerNode
	return write{p.keys[at], uint64(at) % nodes, uint64(p.status[at]), p.sequence}
}

func (p *plan) load() []write {
	writes := make([]write, len(p.keys))
	for i := range writes {
		writes[i] = p.writeAt(i)
	}
	return writes
}

func (p *plan) sortedLoad() []write {
	writes := p.load()
	sort.Slice(writes, func(i, j int) bool {
		return bytes.Compare(writes[i].id[:], writes[j].id[:]) < 0
	})
	return writes
}

func (p *plan) probes(count int) []key {
	keys := make([]key, count)
	for i := range keys {
		keys[i] = p.keys[p.random.below(len(p.keys))]
	}
	return keys
}

func (p *plan) upserts(count int) []write {
	writes := make([]write, count)
	for i := range writes {
		at := p.random.below(len(p.keys))
		step := 1 + p.random.below(statuses-1)
		p.status[at] = uint8((int(p.status[at]) + step) % statuses)
		p.sequence++
		writes[i] = p.writeAt(at)
	}
	return writes
}

func (p *plan) inserts(count int) []write {
	writes := make([]write, count)
	for i := range writes {
		writes[i] = write{id: p.fresh.key(), sequence: p.sequence}
	}
	return writes
}

func (p *plan) distinct(count int) []write {
	seen := map[int]bool{}
	writes := make([]write, 0, count)
	for len(writes) < count && len(writes) < len(p.keys) {
		at := p.random.below(len(p.keys))
		if !seen[at] {
			seen[at] = true
			writes = append(writes, p.writeAt(at))
		}
	}
	return writes
}
