package logging

import (
	"strconv"
	"testing"
	"time"
)

func TestAQuotaLosesNoCount(t *testing.T) {
	t.Parallel()
	q := NewQuota(10, 6*time.Second)
	now, lines, omitted := time.Unix(1_800_000_000, 0), 0, 0
	for range 600 { // one a second for ten minutes
		if n, ok := q.Take(now); ok {
			lines, omitted = lines+1, omitted+n
		}
		now = now.Add(time.Second)
	}
	n, ok := q.Take(now.Add(time.Minute))
	if omitted += n; !ok || lines < 105 || lines > 110 || lines+omitted != 600 {
		t.Errorf("%d lines and %d omitted of 600", lines, omitted)
	}
}

func TestQuotasAreKeptByKeyAndBounded(t *testing.T) {
	t.Parallel()
	q := NewQuotas(1, time.Minute)
	now := time.Unix(1_800_000_000, 0)
	for i := range 10 * maxKeys {
		if _, ok := q.Take(now, strconv.Itoa(i)); !ok {
			t.Fatalf("key %d has no line", i)
		}
		if _, ok := q.Take(now.Add(59*time.Second), strconv.Itoa(i)); ok {
			t.Fatalf("key %d has two lines within a minute", i)
		}
		if n, ok := q.Take(now.Add(time.Minute), strconv.Itoa(i)); !ok || n != 1 {
			t.Fatalf("key %d has no line after a minute, or %d were left out", i, n)
		}
		if len(q.all) > maxKeys {
			t.Fatalf("%d keys are remembered", len(q.all))
		}
	}
}
