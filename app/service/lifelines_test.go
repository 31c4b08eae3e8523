package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/node"
)

// lifelined makes the lifelines of a replica as build does, and runs them.
func lifelined(t *testing.T, self election.ReplicaID, logs *record, environ ...string) (*service, *prometheus.Registry) {
	t.Helper()
	s := &service{cfg: load(t, environ...), log: slog.New(slog.NewTextHandler(logs, nil)), replica: &blind{view: election.View{Peers: []election.Peer{
		{Status: election.Status{Replica: id(1)}}, {Status: election.Status{Replica: id(2)}}, {Status: election.Status{Replica: id(3)}},
	}}}}
	registry := prometheus.NewRegistry()
	s.buildLifelines(self, &node.Node{}, registry)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, len(s.components))
	for _, c := range s.components {
		go func() { ended <- c.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range s.components {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return s, registry
}

func id(n int) election.ReplicaID { return election.ReplicaID("000000000000000" + string(rune('0'+n))) }

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

func TestViewAndMetricShowToWhomThereIsALifeline(t *testing.T) {
	dir, err := os.MkdirTemp("", "life") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	logs := &record{}
	a, metrics := lifelined(t, id(1), logs, "LIFELINE_DIR="+dir)
	_, _ = lifelined(t, id(2), logs, "LIFELINE_DIR="+dir)
	eventually(t, "a lifeline", func() bool { return gauge(t, metrics, "habot_lifelines") == 1 })
	shown := func(v election.View) (ids []election.ReplicaID) {
		for _, p := range v.Peers {
			if p.Lifeline {
				ids = append(ids, p.Status.Replica)
			}
		}
		return ids
	}
	if got := shown(a.replica.View()); !slices.Equal(got, []election.ReplicaID{id(2)}) {
		t.Errorf("lifelines to %v are shown", got)
	}
	if got := shown(a.replica.(watched).replica.View()); got != nil {
		t.Errorf("the replica's own view was changed: %v", got)
	}
	if logs.String() != "" {
		t.Errorf("logged %s", logs)
	}
}

func TestAFolderThatCannotBeUsedIsOneWarning(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	logs := &record{}
	s, metrics := lifelined(t, id(1), logs, "LIFELINE_DIR="+dir)
	if got := logs.String(); strings.Count(got, "msg=") != 1 || !strings.Contains(got, `level=WARN msg="no lifelines: after a crash the lease decides"`) || !strings.Contains(got, dir) {
		t.Errorf("logged %s", got)
	}
	if n := gauge(t, metrics, "habot_lifelines"); n != 0 || len(s.components) != 0 {
		t.Errorf("%v lifelines, %d components", n, len(s.components))
	}
}

func TestAnEmptyLifelineDirIsNoLifelines(t *testing.T) {
	logs := &record{}
	s, metrics := lifelined(t, id(1), logs, "LIFELINE_DIR=")
	if n := gauge(t, metrics, "habot_lifelines"); n != 0 || len(s.components) != 0 || logs.String() != "" {
		t.Errorf("%v lifelines, %d components, logged %s", n, len(s.components), logs)
	}
}

// Lifelines that fail end no replica.
func TestLifelinesThatFailAreAWarning(t *testing.T) {
	logs := &record{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- keepLifelines(ctx, func(context.Context) error { return errors.New("no more sockets") }, slog.New(slog.NewTextHandler(logs, nil)))
	}()
	eventually(t, "a warning", func() bool { return strings.Contains(logs.String(), "no more sockets") })
	select {
	case err := <-ended:
		t.Fatalf("ended with %v", err)
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
