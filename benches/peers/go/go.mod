module fsmdb-peers/memdb

go 1.19

require github.com/hashicorp/go-memdb v1.3.5
