// The client of `make bench-fanout`. The standard library is all it needs.
module podium.dev/tests/load/fanout-client

go 1.26.0
