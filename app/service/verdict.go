package service

import (
	"context"
	"strings"
	"time"

	"habot/app/diagnosis"
	"habot/app/logging"
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
	lines := logging.NewQuota(verdictLines, verdictLineEvery)
	for {
		if v := diagnosis.Of(s.facts()); report.Observe(time.Now(), v, s.cfg.Lease) {
			omitted, ok := lines.Take(time.Now())
			switch {
			case !ok:
			case v.OK():
				s.log.Info("the bot answers", "verdict", v.Text, "omitted", omitted)
			default:
				s.log.Error("the bot does not answer", "cause", v.State, "verdict", v.Text, "problems", strings.Join(v.Problems, "; "), "omitted", omitted)
			}
		}
		select {
		case <-s.supervisor.After(verdictEvery):
		case <-ctx.Done():
			return nil
		}
	}
}
