package service

import (
	"context"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"habot/app/diagnosis"
)

const (
	// verdictEvery is how often the verdict is looked at for the log.
	verdictEvery = 2 * time.Second
	// verdictLines are logged at once at most, then one per verdictLineEvery.
	verdictLines     = 10
	verdictLineEvery = time.Minute
)

// logVerdicts logs whether the bot answers, and when that changes, until ctx ends; then it returns nil.
func (s *service) logVerdicts(ctx context.Context) error {
	var report diagnosis.Report
	lines, omitted := rate.NewLimiter(rate.Every(verdictLineEvery), verdictLines), 0
	next := time.NewTicker(verdictEvery)
	defer next.Stop()
	for {
		v, now := diagnosis.Of(s.facts()), time.Now()
		switch {
		case !report.Observe(now, v, s.cfg.Lease):
		case !lines.AllowN(now, 1):
			omitted++
		case v.OK():
			s.log.Info("the bot answers", "verdict", v.Text, "omitted", omitted)
			omitted = 0
		default:
			s.log.Error("the bot does not answer", "cause", v.State, "verdict", v.Text, "problems", strings.Join(v.Problems, "; "), "omitted", omitted)
			omitted = 0
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
	}
}
