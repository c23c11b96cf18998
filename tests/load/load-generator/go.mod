// The load generator of `make bench`. The standard library is all it needs.
module podium.dev/tests/load/load-generator

go 1.26.0
