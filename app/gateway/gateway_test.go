package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// The whole way: one copy is given what arrives, the other stands by; what the active one confirms is confirmed to Telegram; it
// answers; and when it is killed the other gets what is new, a second later.
func TestTwoCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1").run()
		after(100 * time.Millisecond)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		first := w.tg.say(1, "a")
		after(time.Second)
		second := w.tg.say(2, "b")
		after(time.Second)
		one.expectGot(first, second)
		two.expectGot()
		if got := w.tg.got("sendMessage"); len(got) != 2 {
			t.Errorf("sent: %+v", got)
		}
		w.tg.expectConfirmed(first, second)
		one.kill()
		third := w.tg.say(3, "c")
		after(500 * time.Millisecond)
		two.expectGot()
		after(time.Second)
		two.expectGot(third)
		after(time.Second)
		w.tg.expectConfirmed(first, second, third)
		if a := two.call("sendMessage", "chat_id", "3", "text", "x"); a.status != 200 {
			t.Errorf("the active copy's call: %+v", a)
		}
	})
}

// The watchdog asks so: whatever the answer is, it is a sign of life.
func TestTheOwnServerIsAskedWithoutAConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		served := 0
		w := newWorld(t, func(cfg *Config) { cfg.Served = func() { served++ } })
		start := time.Now()
		if err := w.gateway.Answers(t.Context()); err != nil || served != 1 || time.Since(start) != 0 {
			t.Errorf("%v after %v, served %d times", err, time.Since(start), served)
		}
	})
}
