package node_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/node"
)

func TestSoloWorksUntilToldAndFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const inHand = 3 * time.Second
		s := solo(prometheus.NewRegistry(), func(ctx context.Context, term node.Term) error {
			<-term.Drain
			time.Sleep(inHand)
			if ctx.Err() != nil || !term.Held() {
				t.Error("what is in hand was cut off")
			}
			term.Report([]int64{1})
			return nil
		})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(time.Hour)
		if len(ran) != 0 {
			t.Fatalf("Run returned %v", <-ran)
		}
		stop()
		from := time.Now()
		if err := <-ran; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(from); took != inHand {
			t.Errorf("it took %s to stop", took)
		}
	})
}

func TestSoloWorkThatEndsByItselfIsAFailure(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func() error{
		"an error": func() error { return errBroken },
		"nil":      func() error { return nil },
		"a panic":  func() error { panic("index out of range") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := solo(prometheus.NewRegistry(), func(context.Context, node.Term) error { return end() })
			err := s.Run(t.Context())
			if !errors.Is(err, node.ErrWorkFailed) {
				t.Errorf("Run returned %v", err)
			}
			if name == "an error" && !errors.Is(err, errBroken) {
				t.Errorf("%v does not say why", err)
			}
		})
	}
}

func TestSoloSaysWhenWhatWasInHandCouldNotBeFinished(t *testing.T) {
	t.Parallel()
	s := solo(prometheus.NewRegistry(), func(_ context.Context, term node.Term) error {
		<-term.Drain
		return errBroken
	})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Run(ctx); !errors.Is(err, errBroken) || errors.Is(err, node.ErrWorkFailed) {
		t.Errorf("Run returned %v", err)
	}
}

func TestSoloShowsItselfAsPrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := solo(reg, untilStopped)
		lint(t, reg)
		v := s.View()
		if !v.IsPrimary() || !v.Known() || v.Mode != "bot-only" || v.Self.PrimaryName != "only" || len(v.History) != 1 || len(v.Peers) != 0 {
			t.Errorf("view %+v", v)
		}
		if at := v.Self.Primary.Time(); !at.Equal(time.Now()) {
			t.Errorf("primary since %s", at)
		}
		s.SetHealth(election.Health{Detail: "Telegram is down"})
		for name, want := range map[string]float64{
			"habot_primary": 1, "habot_primary_known": 1, "habot_healthy": 0, "habot_quorum": 1,
			"habot_replicas_expected": 1, "habot_replicas_reachable": 1,
		} {
			if got := metric(t, reg, name, ""); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if err := s.Switchover(t.Context(), ""); !errors.Is(err, election.ErrNoSuccessor) {
			t.Errorf("a switchover: %v", err)
		}
	})
}

func solo(reg prometheus.Registerer, work node.Work) *node.Solo {
	cfg := election.Config{Self: "id-only", Name: "only", Version: "test", Lease: lease, Replicas: 3}
	return node.NewSolo(cfg, skewed{origin: time.Now()}, work, reg)
}
