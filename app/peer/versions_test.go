package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCommonVersionIsTheNewestThatBothHave(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		one, other versions
		want       int
	}{
		{versions{1, 1}, versions{1, 1}, 1},
		{versions{1, 2}, versions{1, 1}, 1}, // the oldest
		{versions{1, 2}, versions{2, 2}, 2}, // the newest
		{versions{1, 2}, versions{2, 3}, 2},
		{versions{1, 4}, versions{2, 3}, 3},
		{versions{1, 2}, versions{3, 3}, 0}, // above
		{versions{2, 3}, versions{1, 1}, 0}, // below
		{versions{2, 3}, versions{4, 9}, 0},
		{versions{1, 2}, versions{}, 0},
		{versions{}, versions{}, 0},
	} {
		if a, b := test.one.common(test.other), test.other.common(test.one); a != test.want || b != test.want {
			t.Errorf("%v and %v have %d and %d, want %d", test.one, test.other, a, b, test.want)
		}
	}
}

func TestVersionsAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version, versions string
		want              versions
	}{
		{"1", "", versions{1, 1}}, // version 1.0.0
		{"1", "1-2", versions{1, 2}},
		{"2", "2-10", versions{2, 10}},
		{"1", "2-1", versions{1, 1}},
		{"1", "0-2", versions{1, 1}},
		{"1", "-1-2", versions{1, 1}},
		{"1", "1-02", versions{1, 1}},
		{"1", "1", versions{1, 1}},
		{"1", "1-2-3", versions{1, 1}},
		{"1", "1-99999999999999999999", versions{1, 1}},
		{"", "", versions{}},
		{"+1", "", versions{}},
		{"one", "a-b", versions{}},
	} {
		h := http.Header{}
		h.Set(protocolHeader, test.version)
		h.Set(versionsHeader, test.versions)
		if got := versionsOf(h); got != test.want {
			t.Errorf("%q, %q is read as %v, want %v", test.version, test.versions, got, test.want)
		}
	}
}

// Versions follow each other, replica by replica: two that overlap work together in the newest that both have, and two that
// do not refuse each other, with a line in the log and a count.
func TestReplicasOfOverlappingVersionsWorkTogether(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		client, server versions
		want           int
	}{
		{versions{1, 2}, versions{1, 2}, 2},
		{versions{1, 1}, versions{1, 2}, 1}, // a client at the least version, and at the greatest
		{versions{2, 2}, versions{1, 2}, 2},
		{versions{2, 3}, versions{1, 2}, 2},
		{versions{1, 2}, versions{2, 3}, 2},
		{versions{3, 3}, versions{1, 2}, 0}, // above
		{versions{1, 1}, versions{2, 3}, 0}, // below
	} {
		t.Run(fmt.Sprintf("%v and %v", test.client, test.server), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				s.server.speaks = test.server
				c, log := s.client("ours")
				c.speaks = test.client
				for range 3 {
					_, err := c.Claim(t.Context(), "b:7175", claimRequest("a"))
					if (test.want == 0) != errors.Is(err, ErrProtocol) || (test.want != 0) != (err == nil) {
						t.Fatalf("got %v", err)
					}
				}
				if test.want == 0 {
					s.refused(reasonProtocol, 3)
					if n := log.count(slog.LevelWarn, "another version"); n != 1 {
						t.Errorf("reported %d times", n)
					}
					if got := strings.Join(c.IncompatiblePeers(time.Minute), ""); got != "b:7175: a replica speaks another version of the protocol" {
						t.Errorf("incompatible are %q", got)
					}
					return
				}
				last := claimRequest("a")
				last.From.Protocol = test.want
				if n := len(s.replica.took); n != 3 || s.replica.took[2] != last {
					t.Errorf("it took %d requests, and last %+v", n, s.replica.took[n-1])
				}
				if n := log.count(slog.LevelWarn, ""); n != 0 || len(c.IncompatiblePeers(time.Minute)) != 0 {
					t.Errorf("%d warnings, incompatible are %q", n, c.IncompatiblePeers(time.Minute))
				}
			})
		})
	}
}

// An address may have a replica of another version from one request to the next: it is written to in the version of that one,
// nothing is refused for good, and notes go to those that take them.
func TestReplicaIsReplacedByOneOfAnotherVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, log := s.client("ours")
		for _, now := range []versions{{1, 2}, {1, 1}, {1, 2}, {2, 3}, {1, 1}} {
			s.server.speaks = now
			a, err := c.Progress(t.Context(), "b:7175", more())
			if err != nil || a.WithoutNotes != (now.newest < notesSince) || (a.Unknown == nil) != a.WithoutNotes {
				t.Errorf("%v: got %+v, %v", now, a, err)
			}
		}
		if n := testutil.ToFloat64(c.refused.WithLabelValues(requestProgress)); n != 0 || log.count(slog.LevelWarn, "") != 0 {
			t.Errorf("%v were refused, %d warnings", n, log.count(slog.LevelWarn, ""))
		}
	})
}

func TestVersionsAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	c, _ := (&served{t: t, net: newPipes()}).client("ours")
	for i := range 3 * maxRemembered {
		c.learn(strings.Repeat("x", i), versions{1, 2})
	}
	if n := len(c.common); n > maxRemembered {
		t.Errorf("of %d addresses the version is remembered", n)
	}
}
