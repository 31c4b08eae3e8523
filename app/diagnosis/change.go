package diagnosis

import (
	"fmt"
	"time"

	"habot/app/election"
)

// Cause is why the primary changed, in words.
func Cause(c election.Change) string {
	previous := c.Previous
	if previous == "" {
		previous = "the previous primary"
	}
	switch c.Reason {
	case election.ReasonStart:
		return "no previous primary was known (first start, or all replicas restarted)"
	case election.ReasonCrash:
		if c.Witnessed {
			return "the process of " + previous + " ended"
		}
		return previous + " stopped responding (crash, freeze or partition)"
	case election.ReasonLeaseLost:
		return previous + " could not renew its lease in time"
	case election.ReasonShutdown:
		return previous + " was shut down"
	case election.ReasonSwitchover:
		return "an operator requested a switchover"
	case election.ReasonUnhealthy:
		return previous + " could not poll Telegram, or reach a webhook backend"
	case election.ReasonLowerPrimary:
		return previous + " met a primary with a lower timestamp"
	case election.ReasonPartFailed:
		return "a component of " + previous + " failed"
	default:
		return string(c.Reason)
	}
}

// Downtime is how long there was no primary before a change, as its new primary knows it.
func Downtime(c election.Change) string {
	if !c.GapMeasured() {
		return "unknown"
	}
	return Span(c.Gap)
}

// Span is a duration as people write it.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	default:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	}
}

// Clock is a time as people read it everywhere: to the second, in UTC.
func Clock(t time.Time) string { return t.UTC().Format(time.DateTime + " MST") }
