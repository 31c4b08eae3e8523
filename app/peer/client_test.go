package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
)

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, _ := s.client("ours")
		ctx := t.Context()
		if st, err := c.Status(ctx, "b:7175"); err != nil || st != inVersion(election.OldestProtocol, status("b")) {
			t.Errorf("status %+v, %v", st, err)
		}
		if st, err := c.Status(ctx, "b:7175"); err != nil || st != status("b") {
			t.Errorf("status %+v, %v", st, err)
		}
		a, err := c.Claim(ctx, "b:7175", claimRequest("a"))
		if err != nil || a != claimAnswer() {
			t.Errorf("answer %+v, %v", a, err)
		}
		l, err := c.Leave(ctx, "b:7175", leaveRequest("a"))
		if err != nil || l != leaveAnswer() {
			t.Errorf("answer %+v, %v", l, err)
		}
		if h, err := c.History(ctx, "b:7175"); err != nil || !reflect.DeepEqual(h, history()) {
			t.Errorf("history %+v, %v", h, err)
		}
		if err := c.End(ctx, "b:7175", endRequest("a")); err != nil {
			t.Error(err)
		}
		if a, err := c.Progress(ctx, "b:7175", progress()); err != nil || a.Unknown == nil || !reflect.DeepEqual(*a.Unknown, progress()) {
			t.Errorf("answer %+v, %v", a, err)
		}
		if err := c.Switchover(ctx, "b:7175", "habot-bot-3"); err != nil {
			t.Error(err)
		}
		want := []any{"status", "status", claimRequest("a"), leaveRequest("a"), "history", endRequest("a"), progress(), "habot-bot-3"}
		if !reflect.DeepEqual(s.replica.took, want) {
			t.Errorf("took %+v, want %+v", s.replica.took, want)
		}
	})
}

func TestAnExaminationIsOneQuestionWithTheDateOfItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, _ := s.client("ours")
		st, date, err := c.Examine(t.Context(), "b:7175")
		if err != nil || st != inVersion(election.OldestProtocol, status("b")) || !date.Equal(time.Now().Truncate(time.Second)) {
			t.Errorf("status %+v, date %v, %v", st, date, err)
		}
		if !reflect.DeepEqual(s.replica.took, []any{"status"}) {
			t.Errorf("took %+v", s.replica.took)
		}
		stranger, _ := s.client("theirs")
		if _, _, err := stranger.Examine(t.Context(), "b:7175"); !errors.Is(err, ErrIdentity) {
			t.Errorf("another bot: %v", err)
		}
	})
}

func TestWhatThePrimaryRefusesKeepsItsMeaning(t *testing.T) {
	t.Parallel()
	for _, want := range []error{election.ErrNotPrimary, election.ErrNoSuccessor} {
		t.Run(want.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				s.replica.err = want
				c, _ := s.client("ours")
				if err := c.Switchover(t.Context(), "b:7175", "x"); !errors.Is(err, want) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestRequestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.replica.before = func(ctx context.Context) { <-ctx.Done() }
		c, _ := s.client("ours")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		from := time.Now()
		if _, err := c.Claim(ctx, "b:7175", claimRequest("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(from); took != 500*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// impostor is a member of the cluster that answers as it likes.
func impostor(t *testing.T, answer http.HandlerFunc) (*Client, *logged) {
	t.Helper()
	p := newPipes()
	server := &http.Server{Handler: answer, TLSConfig: identity(t, "ours").config(), ReadHeaderTimeout: time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ServeTLS(p, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
		time.Sleep(farewell)
	})
	return clientOver(t, p, "ours")
}

func TestReplicaOfAnotherVersionIsReportedOnceAMinute(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3", ""} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, log := impostor(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set(protocolHeader, version)
					_, _ = w.Write([]byte(`{"another":"message"}`))
				})
				for range 3 {
					if _, err := c.Status(t.Context(), "b:7175"); !errors.Is(err, ErrProtocol) {
						t.Errorf("got %v, want ErrProtocol", err)
					}
				}
				if _, err := c.Progress(t.Context(), "b:7175", progress()); !errors.Is(err, ErrProtocol) {
					t.Errorf("got %v, want ErrProtocol", err)
				}
				if n := log.count(slog.LevelWarn, "another version"); n != 1 {
					t.Errorf("reported %d times", n)
				}
				want := []string{"b:7175: a replica speaks another version of the protocol"}
				if got := c.IncompatiblePeers(time.Minute); !slices.Equal(got, want) {
					t.Errorf("incompatible are %q, want %q", got, want)
				}
				time.Sleep(time.Minute + 1)
				if got := c.IncompatiblePeers(time.Minute); len(got) != 0 {
					t.Errorf("%q were met lately", got)
				}
			})
		})
	}
}

func TestAnswersAreReadStrictly(t *testing.T) {
	t.Parallel()
	sound := encode(t, claimAnswer())
	late := claimAnswer()
	late.Remaining = -maxSpan - 1
	for name, body := range map[string]string{
		"junk":                  "<html>",
		"empty":                 "",
		"an unknown field":      strings.Replace(sound, "{", `{"more":1,`, 1),
		"something trailing":    sound + "{}",
		"huge":                  sound + strings.Repeat(" ", maxBody),
		"a span out of bounds":  encode(t, late),
		"an answer to no claim": encode(t, election.ClaimAnswer{From: status("b")}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, _ := impostor(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set(protocolHeader, "1")
					_, _ = w.Write([]byte(body))
				})
				if a, err := c.Claim(t.Context(), "b:7175", claimRequest("a")); !errors.Is(err, ErrMessage) {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		})
	}
}

func TestRemainderOfAPromiseThatRanOutIsTaken(t *testing.T) {
	t.Parallel()
	a := claimAnswer()
	a.Remaining = -time.Millisecond
	if got, err := decode(strings.NewReader(encode(t, a)), checkClaimAnswer); err != nil || got != a {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOnlySuccessIsSuccess(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusForbidden, http.StatusInternalServerError} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c, _ := impostor(t, func(w http.ResponseWriter, _ *http.Request) {
					asked++
					w.Header().Set(protocolHeader, "1")
					w.Header().Set("Location", "https://elsewhere:7175/v1/claims")
					w.WriteHeader(code)
				})
				if err := c.End(t.Context(), "b:7175", endRequest("a")); err == nil {
					t.Error("taken for success")
				}
				if asked != 1 {
					t.Errorf("asked %d times: a redirect was followed", asked)
				}
			})
		})
	}
}

func TestReportsAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	c := NewClient(ClientConfig{Identity: identity(t, "ours"), Logger: slog.New(slog.DiscardHandler)})
	for i := range 3 * maxRemembered {
		c.report(strings.Repeat("x", i), "it does not fit")
	}
	if n := len(c.incompatible); n > maxRemembered {
		t.Errorf("%d addresses are remembered", n)
	}
}

// A refusal has a code, so that words may change. A replica of version 1.0.0 has its words alone, and knows ours by them.
func TestRefusalsAreKnownByTheirCodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		code, text string
		want       error
	}{
		"not primary":             {"not_primary", "another replica is", election.ErrNotPrimary},
		"no successor":            {"no_successor", "no replica can", election.ErrNoSuccessor},
		"not primary, 1.0.0":      {"", "this replica is not primary", election.ErrNotPrimary},
		"no successor, 1.0.0":     {"", "no such standby can take over", election.ErrNoSuccessor},
		"another, of later years": {"on_strike", "this replica is not primary", nil},
		"another, 1.0.0":          {"", "the replica could not answer", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, _ := impostor(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set(protocolHeader, "1")
					if test.code != "" {
						w.Header().Set("Habot-Refusal", test.code)
					}
					w.WriteHeader(http.StatusConflict)
					_, _ = w.Write([]byte(encode(t, complaint{test.text})))
				})
				err := c.Switchover(t.Context(), "b:7175", "")
				if err == nil || (test.want != nil) != (errors.Is(err, election.ErrNotPrimary) || errors.Is(err, election.ErrNoSuccessor)) ||
					test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
}

// What another replica refuses as not valid is counted, and reported once a minute: it is lost, and would be lost in silence.
func TestWhatIsRefusedAsNotValidIsCountedAndReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, log := s.client("ours")
		p := progress()
		p.Handled = make([]int64, election.MaxHandled+1)
		for range 3 {
			if _, err := c.Progress(t.Context(), "b:7175", p); err == nil {
				t.Error("taken")
			}
		}
		p.Handled = p.Handled[:election.MaxHandled]
		if _, err := c.Progress(t.Context(), "b:7175", p); err != nil {
			t.Error(err)
		}
		s.replica.err = election.ErrNotPrimary
		_ = c.Switchover(t.Context(), "b:7175", "")
		for _, r := range requests() {
			want := map[string]float64{requestProgress: 3}[r]
			if n := testutil.ToFloat64(c.refused.WithLabelValues(r)); n != want {
				t.Errorf("%v of %s refused, want %v", n, r, want)
			}
		}
		if n := log.count(slog.LevelWarn, "refuses"); n != 1 {
			t.Errorf("reported %d times", n)
		}
	})
}

// A link-local address has a zone, which is not what a URL takes for one.
func TestAddressesWithAZoneAreReached(t *testing.T) {
	t.Parallel()
	for instance, want := range map[string]string{
		"[fe80::1%eth0]:7175":  "[fe80::1%eth0]:7175",
		"fe80::1%eth0":         "[fe80::1%eth0]:7175",
		"[fe80::1%br-1f%]:71":  "[fe80::1%br-1f%]:71",
		"[fe80::1%25eth0]:717": "[fe80::1%eth0]:717", // as in a URL
		"[2001:db8::1]:7175":   "[2001:db8::1]:7175",
		"192.0.2.1":            "192.0.2.1:7175",
	} {
		t.Run(instance, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				c, _ := s.client("ours")
				var dialled string
				dial := transport(t, c).DialContext
				transport(t, c).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					dialled = addr
					return dial(ctx, network, addr)
				}
				found := discovering(t, &names{}, instance).Addresses()
				if len(found) != 1 {
					t.Fatalf("found %v", found)
				}
				if _, err := c.Status(t.Context(), found[0]); err != nil || dialled != want {
					t.Errorf("dialled %q, want %q; %v", dialled, want, err)
				}
			})
		})
	}
}
