package simulator

import (
	"math/rand/v2"
	"testing"
	"time"

	"habot/app/simulator/playground"
)

const (
	alice = "habot-bot-1"
	bob   = "habot-bot-2"
	carol = "habot-bot-3"
)

// by is a replica that asks for no copy.
func by(replica string) playground.Who { return playground.Who{Replica: replica} }

func at(seconds float64) time.Time {
	return epoch().Add(time.Duration(seconds * float64(time.Second)))
}

// sent puts an update into the account and returns it as the queue would.
func sent(a *account, seconds float64, id int, text string) queued {
	return queued{id: id, serial: a.sent(at(seconds), id, FirstChat, 0, text)}
}

func TestUpdateIsFollowedFromSentToAnswered(t *testing.T) {
	t.Parallel()
	a := newAccount()
	u := []queued{sent(a, 0, 10, "hello")}
	if r := a.sum(at(0)); r.Sent != 1 || r.Unanswered != 1 || r.Delivered != 0 {
		t.Errorf("sent: %+v", r)
	}
	a.delivered(at(1), alice, u)
	a.delivered(at(2), bob, u) // once more, to the next poller
	if r := a.sum(at(2)); r.Delivered != 1 || r.Confirmed != 0 {
		t.Errorf("delivered twice is delivered once: %+v", r)
	}
	a.answered(at(3), by(bob), FirstChat, 0, bob+": hello")
	a.confirmed(at(4), u)
	a.confirmed(at(5), u)
	r := a.sum(at(1000))
	if r.Confirmed != 1 || r.Answered != 1 || r.Unanswered != 0 || r.Lost != 0 || r.AnsweredTwice != 0 || r.StrayMessages != 0 {
		t.Errorf("answered: %+v", r)
	}
	rec := a.records[u[0].serial]
	if len(rec.Delivered) != 2 || rec.Delivered[1].Poller != bob || !rec.Confirmed.Equal(at(4)) || len(rec.Answered) != 1 || rec.Answered[0].By != bob {
		t.Errorf("the record: %+v", rec)
	}
}

func TestSecondAnswerCountsOnceAsTwice(t *testing.T) {
	t.Parallel()
	a := newAccount()
	sent(a, 0, 10, "hello")
	for range 3 {
		a.answered(at(1), by(alice), FirstChat, 0, "hello")
	}
	if r := a.sum(at(2)); r.Answered != 1 || r.AnsweredTwice != 1 {
		t.Errorf("answered %d, twice %d; want 1, 1", r.Answered, r.AnsweredTwice)
	}
}

func TestSameTextTwiceWithAnAnswerEachIsNeitherLostNorTwice(t *testing.T) {
	t.Parallel()
	a := newAccount()
	u := []queued{sent(a, 0, 10, "hello"), sent(a, 1, 11, "hello")}
	a.confirmed(at(2), u)
	a.answered(at(3), by(alice), FirstChat, 0, "hello")
	a.answered(at(4), by(alice), FirstChat, 0, "hello")
	if r := a.sum(at(1000)); r.Answered != 2 || r.AnsweredTwice != 0 || r.Lost != 0 || r.OutOfOrder != 0 {
		t.Errorf("answered %d, twice %d, lost %d, out of order %d; want 2 and none", r.Answered, r.AnsweredTwice, r.Lost, r.OutOfOrder)
	}
	a.answered(at(5), by(alice), FirstChat, 0, "hello")
	if r := a.sum(at(1000)); r.AnsweredTwice != 1 {
		t.Errorf("a third answer to two updates: twice %d, want 1", r.AnsweredTwice)
	}
}

func TestConfirmedWithoutAnAnswerIsLostOnlyAfterAWhile(t *testing.T) {
	t.Parallel()
	a := newAccount()
	u := []queued{sent(a, 0, 10, "hello"), sent(a, 0, 11, ""), sent(a, 0, 12, "kept")}
	a.confirmed(at(5), u[:2])
	if r := a.sum(at(5).Add(lostAfter)); r.Lost != 0 {
		t.Errorf("lost %d while there is still time", r.Lost)
	}
	if r := a.sum(at(5).Add(lostAfter + 1)); r.Lost != 1 || r.Unanswered != 2 {
		t.Errorf("lost %d, unanswered %d; want 1, 2: what expects no answer and what waits is not lost", r.Lost, r.Unanswered)
	}
	a.answered(at(60), by(alice), FirstChat, 0, "hello")
	if r := a.sum(at(100)); r.Lost != 0 {
		t.Errorf("lost %d after a late answer", r.Lost)
	}
}

// Lost updates are counted while they happen: what is remembered for that does not grow until a report is asked for.
func TestWhatIsOverdueIsBoundedWithoutAReport(t *testing.T) {
	t.Parallel()
	a := newAccount()
	for i := range 1000 {
		a.confirmed(at(float64(i)), []queued{sent(a, float64(i), 10+i, "hello")})
	}
	if n, most := len(a.overdue), int(lostAfter.Seconds())+1; n > most {
		t.Errorf("%d updates of 1000 s are remembered, at most those of the last %v, %d, need be", n, lostAfter, most)
	}
}

func TestDroppedUpdateIsNeitherLostNorUnanswered(t *testing.T) {
	t.Parallel()
	a := newAccount()
	u := []queued{sent(a, 0, 10, "hello")}
	a.dropped(u, "expired")
	a.dropped(u, "queue full")
	r := a.sum(at(1000))
	if r.Dropped != 1 || r.Lost != 0 || r.Unanswered != 0 || a.records[u[0].serial].Dropped != "expired" {
		t.Errorf("%+v", r)
	}
}

func TestAnswersOutOfOrderWithinAChatAreCounted(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.sent(at(0), 1, FirstChat, 0, "one")
	a.sent(at(0), 2, FirstChat, 0, "two")
	a.sent(at(0), 3, FirstChat+1, 0, "other")
	a.sent(at(0), 4, FirstChat, 0, "three")
	a.answered(at(1), by(alice), FirstChat, 0, "two")
	a.answered(at(1), by(alice), FirstChat+1, 0, "other") // chats go in parallel
	if r := a.sum(at(1)); r.OutOfOrder != 0 {
		t.Errorf("out of order %d too early", r.OutOfOrder)
	}
	a.answered(at(2), by(alice), FirstChat, 0, "one")
	a.answered(at(3), by(alice), FirstChat, 0, "three")
	a.answered(at(4), by(alice), FirstChat, 0, "two") // a second answer is another matter
	if r := a.sum(at(4)); r.OutOfOrder != 1 || r.AnsweredTwice != 1 {
		t.Errorf("out of order %d, twice %d; want 1, 1", r.OutOfOrder, r.AnsweredTwice)
	}
}

func TestAnswerIsMatchedByChatAndText(t *testing.T) {
	t.Parallel()
	a := newAccount()
	sent(a, 0, 1, "a: b")
	a.answered(at(1), by(alice), FirstChat+1, 0, "a: b")
	a.answered(at(1), by(alice), FirstChat, 0, "b")
	a.answered(at(1), by(alice), FirstChat, 0, "welcome")
	if r := a.sum(at(1)); r.StrayMessages != 3 || r.Answered != 0 {
		t.Errorf("stray %d, answered %d; want 3, 0", r.StrayMessages, r.Answered)
	}
	a.answered(at(2), by(alice), FirstChat, 0, alice+": a: b")
	if r := a.sum(at(2)); r.Answered != 1 {
		t.Errorf("an answer with a name before it was not recognised: %+v", r)
	}
}

func TestPollsOfTwoPollersAtATimeOverlap(t *testing.T) {
	t.Parallel()
	a := newAccount()
	first := a.pollBegan(at(0), alice, 0)
	own := a.pollBegan(at(1), alice, 0)
	if own.Overlaps != "" || a.sum(at(1)).Overlaps != 0 {
		t.Error("a poller overlaps itself")
	}
	second := a.pollBegan(at(2), bob, 0)
	if second.Overlaps != alice || a.sum(at(2)).Overlaps != 1 {
		t.Errorf("overlaps %q", second.Overlaps)
	}
	a.pollEnded(at(3), first, 0, 409)
	a.pollEnded(at(3), own, 0, 409)
	a.pollEnded(at(4), second, 0, 200)
	if third := a.pollBegan(at(4), alice, 0); third.Overlaps != "" {
		t.Errorf("overlaps %q once it has ended", third.Overlaps)
	}
	if r := a.sum(at(4)); r.Overlaps != 1 || r.Conflicts != 2 || r.Polls != 4 {
		t.Errorf("overlaps %d, conflicts %d, polls %d; want 1, 2, 4", r.Overlaps, r.Conflicts, r.Polls)
	}
}

func TestOverlapWithALongPollIsSeenHoweverManyPollsCameSince(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.pollBegan(at(0), alice, 0)
	for i := range 200 {
		p := a.pollBegan(at(1+float64(i)/10), bob, 0)
		if p.Overlaps != alice {
			t.Fatalf("poll %d overlaps %q", p.Number, p.Overlaps)
		}
		a.pollEnded(at(1+float64(i)/10), p, 1, 200)
	}
}

func TestGapAtAChangeOfPollerIsFromTheEndOfTheLastPoll(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.pollEnded(at(2), a.pollBegan(at(0), alice, 0), 0, 200)
	a.pollEnded(at(5), a.pollBegan(at(2), alice, 0), 0, 0)
	a.pollBegan(at(6.5), bob, 0)
	r := a.sum(at(7))
	if len(r.Handovers) != 1 || r.PollerChanges != 1 || r.Poller != bob {
		t.Fatalf("%+v", r)
	}
	if h := r.Handovers[0]; h.From != alice || h.To != bob || h.GapSeconds != 1.5 || !h.At.Equal(at(6.5)) {
		t.Errorf("handover %+v, want a gap of 1.5 s", h)
	}
	if r.LongestUnpolledSeconds != 1.5 {
		t.Errorf("longest unpolled %g s, want 1.5", r.LongestUnpolledSeconds)
	}
}

func TestThereIsNoGapWhileTheLastPollerStillPolls(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.pollEnded(at(2), a.pollBegan(at(0), alice, 0), 0, 200)
	a.pollBegan(at(2), alice, 0) // begins the moment the last one ends, and waits
	a.pollBegan(at(7), bob, 0)
	if h := a.sum(at(7)).Handovers[0]; h.GapSeconds != 0 {
		t.Errorf("gap %g s, want none", h.GapSeconds)
	}
}

func TestTimeUnpolledIsCountedWhileItLasts(t *testing.T) {
	t.Parallel()
	a := newAccount()
	if r := a.sum(at(50)); r.LongestUnpolledSeconds != 0 {
		t.Errorf("%g s before the first poll", r.LongestUnpolledSeconds)
	}
	p := a.pollBegan(at(100), alice, 0)
	if r := a.sum(at(130)); r.LongestUnpolledSeconds != 0 {
		t.Errorf("%g s while one is under way", r.LongestUnpolledSeconds)
	}
	a.pollEnded(at(130), p, 0, 200)
	if r := a.sum(at(134)); r.LongestUnpolledSeconds != 4 {
		t.Errorf("%g s, want 4", r.LongestUnpolledSeconds)
	}
	a.pollBegan(at(136), alice, 0)
	if r := a.sum(at(200)); r.LongestUnpolledSeconds != 6 {
		t.Errorf("%g s, want 6", r.LongestUnpolledSeconds)
	}
}

func TestPollerThatComesBackSoonAfterATakeoverIsNoticed(t *testing.T) {
	t.Parallel()
	poll := func(a *account, seconds float64, who string) {
		a.pollEnded(at(seconds), a.pollBegan(at(seconds), who, 0), 0, 200)
	}
	a := newAccount()
	waiting := a.pollBegan(at(0), alice, 0) // a long one
	poll(a, 29, bob)
	a.pollEnded(at(29), waiting, 0, 409)
	poll(a, 30, alice)
	if r := a.sum(at(30)); r.PollersReturned != 1 || r.PollerChanges != 2 {
		t.Errorf("returned %d, changes %d; want 1, 2", r.PollersReturned, r.PollerChanges)
	}
	a = newAccount()
	poll(a, 0, alice)
	poll(a, 1, bob)
	poll(a, 15, carol)
	poll(a, 16, alice)
	if r := a.sum(at(16)); r.PollersReturned != 0 || r.PollerChanges != 3 {
		t.Errorf("returned %d, changes %d; want 0, 3: it was replaced long ago", r.PollersReturned, r.PollerChanges)
	}
}

func TestWhatIsForgottenStaysInTheNumbers(t *testing.T) {
	t.Parallel()
	a := newAccount()
	u := []queued{sent(a, 0, 1, "lost"), sent(a, 0, 2, "waits"), sent(a, 0, 3, "answered"), sent(a, 0, 4, "dropped")}
	a.confirmed(at(1), u[:1])
	a.answered(at(1), by(alice), FirstChat, 0, "answered")
	a.dropped(u[3:], "expired")
	before := a.sum(at(100))
	for range u {
		a.forget()
	}
	after := a.sum(at(100))
	if len(a.records) != 0 || len(a.texts) != 0 {
		t.Errorf("%d records, %d texts remain", len(a.records), len(a.texts))
	}
	if before.Lost != 1 || before.Unanswered != 2 || after.Lost != before.Lost || after.Unanswered != before.Unanswered ||
		after.Answered != 1 || after.Dropped != 1 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestAccountHasRoomForAFullQueue(t *testing.T) {
	t.Parallel()
	a := newAccount()
	first := sent(a, 0, 1, "first")
	for i := range queueCapacity {
		a.sent(at(0), 2+i, FirstChat, 0, "")
	}
	a.delivered(at(1), alice, []queued{first})
	a.answered(at(1), by(alice), FirstChat, 0, "first")
	if r := a.sum(at(1)); r.Delivered != 1 || r.Answered != 1 {
		t.Errorf("delivered %d, answered %d; want 1, 1", r.Delivered, r.Answered)
	}
	for i := range maxRecords {
		a.sent(at(2), i, FirstChat, 0, "")
	}
	if len(a.records) != maxRecords {
		t.Errorf("%d records are kept, want %d", len(a.records), maxRecords)
	}
}

// The numbers are kept as things happen. They are what a count of all records gives.
func TestTheNumbersAreThoseOfTheRecords(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		a := newAccount()
		var all []queued
		now := 0.0
		for range 200 {
			now += float64(random.IntN(3))
			some := func() []queued {
				if len(all) == 0 {
					return nil
				}
				i := random.IntN(len(all))
				return all[i:min(len(all), i+random.IntN(3))]
			}
			text := []string{"", "a", "b", "c"}[random.IntN(4)]
			switch random.IntN(5) {
			case 0:
				all = append(all, sent(a, now, len(all), text))
			case 1:
				a.delivered(at(now), alice, some())
			case 2:
				a.confirmed(at(now), some())
			case 3:
				a.answered(at(now), by(alice), FirstChat, 0, text)
			case 4:
				if random.IntN(4) == 0 {
					a.dropped(some(), "expired")
				}
			}
			got := a.numbers(at(now))
			var lost, unanswered int64
			for _, r := range a.records {
				if !r.Confirmed.IsZero() && r.Text != "" && len(r.Answered) == 0 && at(now).Sub(r.Confirmed) > lostAfter {
					lost++
				}
				if r.Text != "" && r.Dropped == "" && len(r.Answered) == 0 {
					unanswered++
				}
			}
			if got.Lost != lost || got.Unanswered != unanswered {
				t.Fatalf("seed %d at %v s: lost %d, unanswered %d; the records say %d, %d", seed, now, got.Lost, got.Unanswered, lost, unanswered)
			}
		}
	}
}
