// The database: one table with its primary index, or with three, as go-memdb has them.
//
// The indexers assert the type of the row instead of reflecting on it, which is go-memdb's best
// case. Keys go into the radix tree as 16 raw bytes, or as 32 hexadecimal digits: raw keys make
// wide nodes (fast to read, dear to copy), digits make narrow ones.

package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	memdb "github.com/hashicorp/go-memdb"
)

type key [16]byte

// row has 200 bytes, as the rows of the other engines.
type row struct {
	id      key
	node    uint64
	status  uint64
	payload [21]uint64
}

type write struct {
	id       key
	node     uint64
	status   uint64
	sequence uint64
}

func mark(id *key) uint64 {
	return bits.RotateLeft64(binary.LittleEndian.Uint64(id[:8]), 17) ^ 0x5bd1e995
}

func newRow(w *write) *row {
	r := &row{id: w.id, node: w.node, status: w.status}
	for i := range r.payload {
		r.payload[i] = w.sequence
	}
	r.payload[0] = mark(&w.id)
	return r
}

var hexKeys bool

func encodeKey(id *key) []byte {
	if !hexKeys {
		out := make([]byte, 16)
		copy(out, id[:])
		return out
	}
	out := make([]byte, 32)
	hex.Encode(out, id[:])
	return out
}

func encodeNumber(value uint64) []byte {
	out := make([]byte, 8)
	binary.BigEndian.PutUint64(out, value)
	return out
}

type idIndexer struct{}

func (idIndexer) FromObject(object interface{}) (bool, []byte, error) {
	return true, encodeKey(&object.(*row).id), nil
}

func (idIndexer) FromArgs(args ...interface{}) ([]byte, error) {
	return encodeKey(args[0].(*key)), nil
}

type numberIndexer struct{ field func(*row) uint64 }

func (i numberIndexer) FromObject(object interface{}) (bool, []byte, error) {
	return true, encodeNumber(i.field(object.(*row))), nil
}

func (i numberIndexer) FromArgs(args ...interface{}) ([]byte, error) {
	return encodeNumber(args[0].(uint64)), nil
}

const table = "rows"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func ensure(right bool, what string, args ...interface{}) {
	if !right {
		panic(fmt.Sprintf(what, args...))
	}
}

func open(triple bool) *memdb.MemDB {
	indexes := map[string]*memdb.IndexSchema{
		"id": {Name: "id", Unique: true, Indexer: idIndexer{}},
	}
	if triple {
		node := numberIndexer{func(r *row) uint64 { return r.node }}
		status := numberIndexer{func(r *row) uint64 { return r.status }}
		indexes["node"] = &memdb.IndexSchema{Name: "node", Indexer: node}
		indexes["status"] = &memdb.IndexSchema{Name: "status", Indexer: status}
	}
	schema := &memdb.DBSchema{
		Tables: map[string]*memdb.TableSchema{table: {Name: table, Indexes: indexes}},
	}
	db, err := memdb.NewMemDB(schema)
	must(err)
	return db
}

// load fills a table by transactions of a size that go-memdb keeps track of: after a larger one it
// copies nodes again and again, and walks the whole tree to find which changed.
func load(writes []write, triple bool) *memdb.MemDB {
	const transaction = 250
	db := open(triple)
	for len(writes) > transaction {
		upsertAll(db, writes[:transaction])
		writes = writes[transaction:]
	}
	upsertAll(db, writes)
	return db
}

func upsertAll(db *memdb.MemDB, writes []write) {
	txn := db.Txn(true)
	for i := range writes {
		must(txn.Insert(table, newRow(&writes[i])))
	}
	txn.Commit()
}

func remove(db *memdb.MemDB, id *key) {
	txn := db.Txn(true)
	must(txn.Delete(table, &row{id: *id}))
	txn.Commit()
}

func getEach(txn *memdb.Txn, keys []key) uint64 {
	sum := uint64(0)
	for i := range keys {
		object, err := txn.First(table, "id", &keys[i])
		must(err)
		if object != nil {
			sum += object.(*row).payload[0]
		}
	}
	return sum
}

func scanRange(txn *memdb.Txn, from *key, rows int) uint64 {
	found, err := txn.LowerBound(table, "id", from)
	must(err)
	sum := uint64(0)
	for i := 0; i < rows; i++ {
		object := found.Next()
		if object == nil {
			break
		}
		sum += object.(*row).payload[0]
	}
	return sum
}

// scan visits every row and hands each to visit.
func scan(txn *memdb.Txn, index string, visit func(*row), args ...interface{}) {
	found, err := txn.Get(table, index, args...)
	must(err)
	for object := found.Next(); object != nil; object = found.Next() {
		visit(object.(*row))
	}
}
