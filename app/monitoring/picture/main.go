// Command picture draws the last failover of a running demo, from what Prometheus and the simulated Telegram have
// recorded: what each replica was, who polled and when, when none did, and what became of users' messages.
//
//	go run ./app/monitoring/picture -out failover.svg
//
// What was recorded is written beside the picture, as failover.json; -replay draws it again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"habot/app/simulator"
)

// Of the picture, before and after the moment when no replica polled any more.
const (
	before = 3 * time.Second
	after  = 7 * time.Second
)

var errNone = errors.New("there was no failover: kill the primary first")

func main() {
	prometheus := flag.String("prometheus", "http://127.0.0.1:9090", "where Prometheus answers")
	telegram := flag.String("simulator", "http://127.0.0.1:8081", "where the simulated Telegram answers")
	out := flag.String("out", "failover.svg", "the picture; what was recorded goes beside it, as .json")
	replay := flag.Bool("replay", false, "draw what was recorded before")
	flag.Parse()
	if err := run(*prometheus, *telegram, *out, *replay); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(prometheus, telegram, out string, replay bool) error {
	recording := strings.TrimSuffix(out, ".svg") + ".json"
	var r Recording
	if replay {
		raw, err := os.ReadFile(recording) //nolint:gosec // named on the command line
		if err != nil {
			return fmt.Errorf("read the recording: %w", err)
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("read the recording: %w", err)
		}
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var err error
		if r, err = record(ctx, prometheus, telegram); err != nil {
			return err
		}
		raw, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return fmt.Errorf("write the recording: %w", err)
		}
		if err := os.WriteFile(recording, append(raw, '\n'), 0o644); err != nil { //nolint:gosec // world-readable: it is published
			return fmt.Errorf("write the recording: %w", err)
		}
	}
	if err := os.WriteFile(out, []byte(Draw(r)), 0o644); err != nil { //nolint:gosec // world-readable: it is published
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// record asks for all there is to know of the last change of poller.
func record(ctx context.Context, prometheus, telegram string) (Recording, error) {
	report, err := get[simulator.Report](ctx, telegram+"/report")
	if err != nil {
		return Recording{}, err
	}
	if len(report.Handovers) == 0 {
		return Recording{}, errNone
	}
	last := report.Handovers[len(report.Handovers)-1]
	zero := last.At.Add(-time.Duration(last.GapSeconds * float64(time.Second)))
	if wait := time.Until(zero.Add(after + time.Second)); wait > 0 {
		time.Sleep(wait) // until what came after is recorded
	}
	since := func(t time.Time) float64 { return math.Round(t.Sub(zero).Seconds()*1000) / 1000 }
	r := Recording{
		At: zero.UTC(), From: last.From, To: last.To, Unpolled: last.GapSeconds,
		Start: -before.Seconds(), End: after.Seconds(),
	}
	inPicture := func(from, to time.Time) bool { return since(to) >= r.Start && since(from) <= r.End }

	polls, err := get[[]simulator.PollRecord](ctx, fmt.Sprintf("%s/report/polls?from=%d", telegram, max(1, report.Polls-5000)))
	if err != nil {
		return r, err
	}
	for _, p := range polls {
		end := p.End
		if end.IsZero() {
			end = time.Now()
		}
		if inPicture(p.Start, end) {
			r.Polls = append(r.Polls, Span{Replica: p.Poller, Start: since(p.Start), End: since(end)})
		}
	}
	updates, err := get[[]simulator.Record](ctx, fmt.Sprintf("%s/report/updates?from=%d", telegram, max(1, report.Sent-5000)))
	if err != nil {
		return r, err
	}
	for _, u := range updates {
		if !inPicture(u.Sent, u.Sent) {
			continue
		}
		update := Update{Sent: since(u.Sent)}
		for _, a := range u.Answered {
			update.Answered = append(update.Answered, Answer{a.Poller, since(a.At)})
		}
		r.Twice += max(0, len(u.Answered)-1)
		r.Updates = append(r.Updates, update)
	}
	if report, err = get[simulator.Report](ctx, telegram+"/report"); err != nil {
		return r, err
	}
	r.Lost = report.Lost
	return r, r.ask(ctx, prometheus, zero)
}

// ask adds what Prometheus knows.
func (r *Recording) ask(ctx context.Context, prometheus string, zero time.Time) error {
	client, err := api.NewClient(api.Config{Address: prometheus})
	if err != nil {
		return fmt.Errorf("reach Prometheus: %w", err)
	}
	p := promapi.NewAPI(client)
	const step = 250 * time.Millisecond
	v, _, _, err := p.QueryRange(ctx, "replica:habot_role", promapi.Range{Start: zero.Add(-before), End: zero.Add(after), Step: step})
	if err != nil {
		return fmt.Errorf("ask Prometheus for the roles: %w", err)
	}
	matrix, _ := v.(model.Matrix)
	for _, series := range matrix {
		for _, s := range series.Values {
			span := Span{string(series.Metric["replica"]), roleOf(int(s.Value)), math.Round(s.Timestamp.Time().Sub(zero).Seconds()*1000) / 1000, 0}
			span.End = span.Start + step.Seconds()
			if n := len(r.Roles); n > 0 && r.Roles[n-1].Replica == span.Replica && r.Roles[n-1].Role == span.Role {
				r.Roles[n-1].End = span.End
			} else {
				r.Roles = append(r.Roles, span)
			}
		}
	}
	v, _, _, err = p.Query(ctx, `{__name__=~"habot:last_change_gap_seconds|habot:lease_seconds"}`, zero.Add(after))
	if err != nil {
		return fmt.Errorf("ask Prometheus for the change: %w", err)
	}
	vector, _ := v.(model.Vector)
	for _, s := range vector {
		if s.Metric[model.MetricNameLabel] == "habot:lease_seconds" {
			r.Lease = float64(s.Value)
		} else if string(s.Metric["replica"]) == r.To {
			r.Reason, r.Gap = string(s.Metric["reason"]), float64(s.Value)
		}
	}
	if r.Reason == "" || len(r.Roles) == 0 {
		return fmt.Errorf("%w, or Prometheus has not seen it", errNone)
	}
	return nil
}

// roleOf is the name of a value of replica:habot_role; 10 more is without Telegram.
func roleOf(value int) string {
	return []string{"gone", "looking", "standby", "primary"}[value%10%4]
}

func get[T any](ctx context.Context, url string) (v T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return v, fmt.Errorf("ask the simulator: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, fmt.Errorf("ask the simulator: %w", err)
	}
	err = json.NewDecoder(resp.Body).Decode(&v)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return v, fmt.Errorf("read what the simulator says: %w", err)
	}
	return v, nil
}
