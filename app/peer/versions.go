package peer

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"habot/app/election"
)

// protocolHeader names the version of the protocol in which a request or an answer is written; it is looked at before
// the body, so that another version is called by its name and not bad JSON. An answer has the version of its request.
const protocolHeader = "Habot-Protocol"

// versionsHeader names the versions that its sender reads and writes, as in 1-2. Version 1.0.0 sends none, and takes no
// version but that of its own messages.
const versionsHeader = "Habot-Protocols"

// notesSince is the version of the protocol from which on Progress has notes, and its answer too.
const notesSince = 2

// versions are those of the protocol that a replica reads and writes. The zero value stands for none.
type versions struct{ oldest, newest int }

func ownVersions() versions { return versions{election.OldestProtocol, election.Protocol} }

func (v versions) String() string { return fmt.Sprintf("%d-%d", v.oldest, v.newest) }

// has reports whether a version is among them.
func (v versions) has(version int) bool {
	return v.oldest <= version && version <= v.newest && version > 0
}

// common is the newest version that both have, 0 if there is none.
func (v versions) common(other versions) int {
	newest := min(v.newest, other.newest)
	if !v.has(newest) || !other.has(newest) {
		return 0
	}
	return newest
}

// versionOf is the version in which a message is written, 0 if it names none.
func versionOf(h http.Header) int { return number(h.Get(protocolHeader)) }

// versionsOf are those that the sender of a message reads and writes.
func versionsOf(h http.Header) versions {
	oldest, newest, ok := strings.Cut(h.Get(versionsHeader), "-")
	if v := (versions{number(oldest), number(newest)}); ok && v.has(v.oldest) {
		return v
	}
	return versions{versionOf(h), versionOf(h)}
}

// number reads what strconv.Itoa writes of a number above zero; 0 stands for all else.
func number(s string) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && strconv.Itoa(n) == s {
		return n
	}
	return 0
}

// written is a message as it is in a version of the protocol. A change of a message adds a version
// (election.Protocol), and here the message as the earlier ones know it.
func written(message any, version int) any {
	switch m := message.(type) {
	case election.Status:
		m.Protocol = version
		return m
	case election.ClaimRequest:
		m.From.Protocol = version
		return m
	case election.ClaimAnswer:
		m.From.Protocol = version
		return m
	case election.EndRequest:
		m.From.Protocol = version
		return m
	case election.LeaveRequest:
		m.From.Protocol = version
		return m
	case election.LeaveAnswer:
		m.From.Protocol = version
		return m
	case election.Progress:
		if version < notesSince {
			m.Notes, m.Settled = nil, nil
		}
		return m
	case election.ProgressAnswer:
		if version < notesSince {
			m.Unknown = nil
		}
		return m
	}
	return message
}
