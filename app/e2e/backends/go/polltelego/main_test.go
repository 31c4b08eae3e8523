package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mymmrac/telego"
)

// BenchmarkFirstUpdates measures how long telego takes to copy as many updates at once as a copy is given that takes over, for the first
// time in its process and for the second: the first time each handler compiles the encoder. Only the first iteration is of use.
func BenchmarkFirstUpdates(b *testing.B) {
	const atOnce = 75
	all := func() time.Duration {
		from := time.Now()
		var handling sync.WaitGroup
		for i := range atOnce {
			handling.Go(func() {
				u := telego.Update{UpdateID: i, Message: &telego.Message{Text: fmt.Sprint(i), Chat: telego.Chat{ID: 1, Type: "private"}}}
				_ = u.Clone()
			})
		}
		handling.Wait()
		return time.Since(from)
	}
	for b.Loop() {
		first, second := all(), all()
		b.ReportMetric(first.Seconds()*1000, "first_ms")
		b.ReportMetric(second.Seconds()*1000, "second_ms")
	}
}
