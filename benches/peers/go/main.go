// The go-memdb harness: the operations of the benchmark, one JSON object a line.
//
// A snapshot is a read transaction. go-memdb of the packages has no reverse ranges that start at a
// key, and no forks of its transactions that write, so those operations have no figure.

package main

import (
	"bytes"
	"flag"
	"runtime"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

const (
	rangeRows = 100
	manyKeys  = 64
	large     = 10_000
	gets      = 16
	chunkTime = 20 * time.Millisecond
	rowBytes  = 208 // the size class of a row
)

func main() {
	n := flag.Int("n", 20_000, "rows")
	keys := flag.String("keys", "go-hex", "go-raw or go-hex")
	ops := flag.String("ops", "", "operations, all when empty")
	quick := flag.Bool("quick", false, "few samples")
	counting := flag.Bool("memory", false, "count instead of timing")
	flag.Parse()
	hexKeys = *keys == "go-hex"
	s := &sampler{n: *n, variant: *keys, counting: *counting}
	if *ops != "" {
		s.ops = strings.Split(*ops, ",")
	}
	run(s, newPlan(*n), newScale(*quick))
	s.print()
}

func run(s *sampler, p *plan, sc scale) {
	if s.counting {
		memory(s, p, sc)
	}
	if s.wantsAny("get", "get_many64", "range100", "scan", "scan_rows", "snapshot", "upsert",
		"upsert_100", "insert", "delete", "get_beside_writer", "upsert_beside_reader",
		"old_snapshot_drop") {
		db := load(p.load(), false)
		check(db, p)
		reads(s, db, p, sc)
		writes(s, db, p, sc)
		check(db, p)
		if !s.counting {
			beside(s, db, p, sc)
			oldSnapshot(s, db, p, sc)
		}
	}
	if s.wantsAny("sorted_insert", "sorted_load") {
		sorted := p.sortedLoad()
		s.measure("sorted_insert", sc.loads, 1, s.n, func(int) { upsertAll(open(false), sorted) })
		s.measure("sorted_load", sc.loads, 1, s.n, func(int) { load(sorted, false) })
		s.better("sorted_load", "sorted_insert")
	}
	if s.wantsAny("upsert3", "upsert3_100", "upsert3_10000") {
		triple(s, p, sc)
	}
}

func check(db *memdb.MemDB, p *plan) {
	txn := db.Txn(false)
	sorted := p.sortedLoad()
	at := 0
	scan(txn, "id", func(r *row) {
		ensure(at < len(sorted) && r.id == sorted[at].id, "the scan has another key at %d", at)
		ensure(r.payload[0] == mark(&r.id), "the row at %d is not right", at)
		at++
	})
	ensure(at == len(sorted), "the scan has %d rows", at)
	for _, from := range p.probes(1_000) {
		ensure(getEach(txn, []key{from}) == mark(&from), "get")
		low := sort.Search(len(sorted), func(i int) bool {
			return bytes.Compare(sorted[i].id[:], from[:]) >= 0
		})
		sum := uint64(0)
		for i := low; i < len(sorted) && i < low+rangeRows; i++ {
			sum += mark(&sorted[i].id)
		}
		ensure(scanRange(txn, &from, rangeRows) == sum, "range")
	}
	for _, absent := range p.inserts(1_000) {
		ensure(getEach(txn, []key{absent.id}) == 0, "get of what is not there")
	}
}

func reads(s *sampler, db *memdb.MemDB, p *plan, sc scale) {
	txn := db.Txn(false)
	probes := p.probes(sc.chunks * sc.reads)
	s.measure("get", sc.chunks, 1, sc.reads, func(at int) {
		s.sink += getEach(txn, probes[at*sc.reads:(at+1)*sc.reads])
	})
	s.measure("get_many64", sc.chunks, sc.reads/manyKeys, manyKeys, func(at int) {
		s.sink += getEach(txn, probes[at*manyKeys:(at+1)*manyKeys])
	})
	s.measure("range100", sc.chunks, sc.reads/20, 1, func(at int) {
		s.sink += scanRange(txn, &probes[at], rangeRows)
	})
	s.measure("scan", sc.scans, 1, s.n, func(int) {
		scan(txn, "id", func(*row) { s.sink++ })
	})
	s.measure("scan_rows", sc.scans, 1, s.n, func(int) {
		scan(txn, "id", func(r *row) { s.sink += r.payload[0] })
	})
	s.measure("snapshot", sc.chunks, 20*sc.reads, 1, func(int) { db.Txn(false) })
}

func writes(s *sampler, db *memdb.MemDB, p *plan, sc scale) {
	upserts := p.upserts(sc.chunks * sc.writes)
	s.measure("upsert", sc.chunks, sc.writes, 1, func(at int) { upsertAll(db, upserts[at:at+1]) })
	transactions := sc.writes / 50
	if transactions < 2 {
		transactions = 2
	}
	upserts = p.upserts(sc.chunks * transactions * 100)
	s.measure("upsert_100", sc.chunks, transactions, 100, func(at int) {
		upsertAll(db, upserts[at*100:(at+1)*100])
	})
	count := sc.writes
	if most := s.n / 10 / sc.chunks; count > most {
		count = most
	}
	gone, added := p.distinct(sc.chunks*count), p.inserts(sc.chunks*count)
	if s.wants("delete") {
		s.measure("delete", sc.chunks, count, 1, func(at int) { remove(db, &gone[at].id) })
		upsertAll(db, gone)
	}
	if s.wants("insert") {
		s.measure("insert", sc.chunks, count, 1, func(at int) { upsertAll(db, added[at:at+1]) })
		for i := range added {
			// In the counting mode not all were inserted; those are not there to be deleted.
			if getEach(db.Txn(false), []key{added[i].id}) != 0 {
				remove(db, &added[i].id)
			}
		}
	}
}

func beside(s *sampler, db *memdb.MemDB, p *plan, sc scale) {
	if !s.wantsAny("get_beside_writer", "upsert_beside_reader") {
		return
	}
	chunks := 40
	if sc.quick {
		chunks = 5
	}
	upserts, probes := p.upserts(100_000), p.probes(100_000)
	runtime.GC()
	var committed, stop uint64
	ended := make(chan struct{})
	go func() {
		for i := 0; atomic.LoadUint64(&stop) == 0; i++ {
			at := i % len(upserts)
			upsertAll(db, upserts[at:at+1])
			atomic.AddUint64(&committed, 1)
		}
		close(ended)
	}()
	var reader, writer []float64
	batch := 0
	for i := 0; i < chunks; i++ {
		start, before, done := time.Now(), atomic.LoadUint64(&committed), 0
		for time.Since(start) < chunkTime {
			at := batch % (len(probes) / gets) * gets
			s.sink += getEach(db.Txn(false), probes[at:at+gets])
			batch++
			done += gets
		}
		elapsed := float64(time.Since(start).Nanoseconds())
		reader = append(reader, elapsed/float64(done))
		if transactions := atomic.LoadUint64(&committed) - before; transactions > 0 {
			writer = append(writer, elapsed/float64(transactions))
		}
	}
	atomic.StoreUint64(&stop, 1)
	<-ended
	if s.wants("get_beside_writer") {
		s.record("get_beside_writer", "ns", figure(reader))
	}
	if s.wants("upsert_beside_reader") && len(writer) > 0 {
		s.record("upsert_beside_reader", "ns", figure(writer))
	}
}

// oldSnapshot has nothing to time at the drop: the garbage collector pays, at another time.
func oldSnapshot(s *sampler, db *memdb.MemDB, p *plan, sc scale) {
	if !s.wants("old_snapshot_drop") {
		return
	}
	txn := db.Txn(false)
	upserts := p.upserts(sc.held)
	for i := range upserts {
		upsertAll(db, upserts[i:i+1])
	}
	start := time.Now()
	txn.Abort()
	s.record("old_snapshot_drop", "ns", float64(time.Since(start).Nanoseconds()))
}

func triple(s *sampler, p *plan, sc scale) {
	db := load(p.load(), true)
	checkTriple(db, p)
	measure := func(op string, chunks, transactions, rows int) {
		if !s.wants(op) {
			return
		}
		if s.counting && chunks > 2 {
			chunks = 2
		}
		upserts := p.upserts(chunks * transactions * rows)
		s.measure(op, chunks, transactions, rows, func(at int) {
			upsertAll(db, upserts[at*rows:(at+1)*rows])
		})
	}
	count, chunks := sc.writes/2, 5
	if sc.quick {
		chunks = 2
	}
	hundreds := count / 100
	if hundreds < 2 {
		hundreds = 2
	}
	measure("upsert3", sc.chunks, count, 1)
	measure("upsert3_100", sc.chunks, hundreds, 100)
	measure("upsert3_10000", chunks, 1, large)
	checkTriple(db, p)
}

func checkTriple(db *memdb.MemDB, p *plan) {
	expected := make([]int, statuses)
	for _, status := range p.status {
		expected[status]++
	}
	txn := db.Txn(false)
	for status, rows := range expected {
		found := 0
		scan(txn, "status", func(r *row) {
			ensure(r.status == uint64(status), "a row is under another status")
			found++
		}, uint64(status))
		ensure(found == rows, "status %d has %d rows and not %d", status, found, rows)
	}
}

func memory(s *sampler, p *plan, sc scale) {
	rows, n := float64(s.n*rowBytes), float64(s.n)
	record := func(op string, bytes float64) {
		if s.wants(op) {
			s.record(op, "bytes per entry", bytes)
		}
	}
	if s.wantsAny("memory/random", "memory/held_growth") {
		upserts, loads := p.upserts(sc.held), p.load()
		changed := map[key]bool{}
		for i := range upserts {
			changed[upserts[i].id] = true
		}
		base := liveBytes()
		db := load(loads, false)
		index := liveBytes() - base - rows
		record("memory/random", index/n)
		if s.wants("memory/held_growth") {
			txn := db.Txn(false)
			for i := range upserts {
				upsertAll(db, upserts[i:i+1])
			}
			grown := liveBytes() - base - rows - float64(len(changed)*rowBytes)
			s.record("memory/held_growth", "times", grown/index)
			s.sink += getEach(txn, p.keys[:1]) + getEach(db.Txn(false), p.keys[:1])
		}
		s.sink += loads[0].node + upserts[0].node
	}
	weigh := func(op string, loads []write, three bool, entries float64) {
		if s.wants(op) {
			base := liveBytes()
			db := load(loads, three)
			record(op, (liveBytes()-base-rows)/entries)
			s.sink += getEach(db.Txn(false), p.keys[:1]) + loads[0].node
		}
	}
	weigh("memory/sorted", p.sortedLoad(), false, n)
	weigh("memory/triple", p.load(), true, 3*n)
}
