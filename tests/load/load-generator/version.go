package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// version is the age of a board's top: a larger epoch is newer, within one a larger number.
type version struct {
	epoch, number int64
}

// Shown says of a version how many answers had it, and when the last of them arrived (Unix seconds).
type Shown struct {
	Epoch   int64   `json:"epoch"`
	Version int64   `json:"version"`
	Answers int     `json:"answers"`
	Last    float64 `json:"last"`
}

// versionOf finds the version in the JSON of GET /api/v1/scoreboard, whose last members are epoch and version.
func versionOf(body []byte) (version, error) {
	epoch, err := lastMember(body, `"epoch":`)
	if err != nil {
		return version{}, err
	}
	number, err := lastMember(body, `"version":`)
	return version{epoch, number}, err
}

func lastMember(body []byte, name string) (int64, error) {
	at := bytes.LastIndex(body, []byte(name))
	if at < 0 {
		return 0, fmt.Errorf("no %s in the answer", name)
	}
	rest := bytes.TrimLeft(body[at+len(name):], " ")
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	return strconv.ParseInt(string(rest[:end]), 10, 64)
}

// shownBy merges what the connections saw, oldest version first.
func shownBy(workers []*worker) []Shown {
	merged := map[version]Shown{}
	for _, each := range workers {
		for seen, found := range each.results.shown {
			sum := merged[seen]
			sum.Epoch, sum.Version = seen.epoch, seen.number
			sum.Answers += found.answers
			sum.Last = max(sum.Last, float64(found.last.UnixNano())/float64(time.Second))
			merged[seen] = sum
		}
	}
	all := make([]Shown, 0, len(merged))
	for _, each := range merged {
		all = append(all, each)
	}
	slices.SortFunc(all, func(a, b Shown) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Version, b.Version))
	})
	return all
}
