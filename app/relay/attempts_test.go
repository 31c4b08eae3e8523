package relay

import (
	"net/http"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestDelaysAreTelegrams(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: time.Second, 3: 2 * time.Second, 4: 4 * time.Second, 7: 32 * time.Second, 8: time.Minute, 9: time.Minute, 1000: time.Minute,
	} {
		if got := delay(failures, 0); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
	if got := delay(1000, 0.999); got < 119*time.Second || got > 2*time.Minute {
		t.Errorf("the longest delay is %v", got)
	}
	if got := delay(8, 0.5); got != 64*time.Second {
		t.Errorf("after 8 failures %v", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "3600": time.Hour, "3601": time.Hour, "18446744073709551615": time.Hour,
		"99999999999999999999": 0, "-5": 0, "1.5": 0, "soon": 0,
		start.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		start.Add(-time.Hour).Format(http.TimeFormat):       0,
		start.Add(48 * time.Hour).Format(http.TimeFormat):   time.Hour,
	} {
		if got := retryAfter(header, start); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// An update is given up for what it suffered while others were well, not for an outage.
func TestPoisonIsWhatFailsWhileOthersDoWell(t *testing.T) {
	t.Parallel()
	t.Run("others do well", func(t *testing.T) {
		t.Parallel()
		a, now := newAttempts(), start
		for n := 0; ; n++ {
			if a.spoiled(now, now.Add(-time.Millisecond)) {
				break
			}
			if now.Sub(start) > poisonAfter {
				t.Fatal("it is not given up")
			}
			a.failed(now, member{}, 0, 0)
			now = now.Add(max(delay(n, 0), time.Second))
		}
		if took := now.Sub(start); took < poisonAfter || took > poisonAfter+2*time.Minute {
			t.Errorf("given up after %v", took)
		}
	})
	t.Run("an outage is not its fault", func(t *testing.T) {
		t.Parallel()
		a, now, well := newAttempts(), start, start.Add(-time.Second)
		for range 600 {
			if now = now.Add(time.Minute); a.spoiled(now, well) {
				t.Fatalf("given up after %v without another", now.Sub(start))
			}
		}
		if well = now.Add(30 * time.Second); a.spoiled(now.Add(time.Minute), well) {
			t.Error("given up at once when the first other was well again")
		}
	})
	t.Run("the first failure proves nothing", func(t *testing.T) {
		t.Parallel()
		if a := newAttempts(); a.spoiled(start, start) {
			t.Error("given up at once")
		}
	})
}
