package bot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mymmrac/telego"

	"habot/app/election"
	"habot/app/simulator"
)

// onSimulator is a fixture on a simulated Telegram.
func onSimulator(t *testing.T) (*fixture, *simulator.Simulator) {
	t.Helper()
	sim := newSimulator()
	return newFixtureOn(t, simulated(sim)), sim
}

// limits has Telegram limit a chat for so long.
func limits(sim *simulator.Simulator, chat int64, lasting time.Duration) {
	sim.Apply(simulator.Control{Faults: []simulator.Fault{{
		Kind: simulator.FaultLimit, Methods: []string{"sendMessage"}, Chats: []int64{chat}, Seconds: lasting.Seconds(), RetryAfterSeconds: 5,
	}}})
}

func flood(sim *simulator.Simulator, chat int64, n int) {
	for i := range n {
		sim.Write(chat, fmt.Sprintf("%d of %d", i, chat))
	}
}

// answeredIn is how long the updates of a chat waited for their answers, those without one left out.
func answeredIn(t *testing.T, sim *simulator.Simulator, chat int64) (waited []time.Duration, unanswered int) {
	t.Helper()
	for _, r := range records(t, sim) {
		switch {
		case r.Chat != chat:
		case len(r.Answered) == 0:
			unanswered++
		default:
			waited = append(waited, r.Answered[0].At.Sub(r.Sent))
		}
	}
	return waited, unanswered
}

// soon is what others may wait on account of a chat that Telegram limits.
const soon = time.Second

// Telegram gives the first hundred that are not confirmed. Those of a chat that it limits are kept by the replicas instead, so
// that the others' come into sight; they are answered when the limit is lifted, in order.
func TestAChatThatIsLimitedDelaysNoOtherHoweverManyOfItsUpdatesWait(t *testing.T) {
	t.Parallel()
	for _, n := range []int{99, 100, 101, 150, 220} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, sim := onSimulator(t)
				limits(sim, 5, time.Minute)
				flood(sim, 5, n)
				sim.Write(6, "me, too")
				r := f.role(election.Change{})
				r.noted = true
				r.run()
				after(soon)
				if waited, unanswered := answeredIn(t, sim, 6); unanswered != 0 {
					t.Fatalf("chat 6 waits for chat 5 (%v)", waited)
				}
				for range 5 {
					sim.Write(6, fmt.Sprint("again ", time.Now()))
					after(10 * time.Second)
				}
				waited, unanswered := answeredIn(t, sim, 6)
				for _, d := range waited {
					if d > soon {
						t.Errorf("chat 6 waited %v", d)
					}
				}
				if unanswered != 0 {
					t.Errorf("chat 6 has %d updates without an answer", unanswered)
				}
				after(2 * time.Minute)
				if rep := sim.Report(); rep.Answered != rep.Sent || rep.Confirmed != rep.Sent || rep.AnsweredTwice != 0 || rep.OutOfOrder != 0 || rep.Lost != 0 {
					t.Errorf("the account is %+v", rep)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if len(r.notes) != 0 {
					t.Errorf("%d notes are of no use any more", len(r.notes))
				}
			})
		})
	}
}

// So it is with webhook backends: a chat that the backend puts off or refuses, or whose answers Telegram limits, fills no window.
func TestAChatThatIsPutOffByABackendDelaysNoOther(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(w http.ResponseWriter){
		"429 and Retry-After": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"500":                 func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"limited by Telegram": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim := newSimulator()
				f, b := newRelayedOn(t, simulated(sim))
				began := time.Now()
				b.answer = func(w http.ResponseWriter, raw string) {
					var u telego.Update
					if err := json.Unmarshal([]byte(raw), &u); err != nil {
						t.Error(err)
					}
					if refuse != nil && u.Message.Chat.ID == 5 && time.Since(began) < time.Minute {
						refuse(w)
						return
					}
					w.Header().Set("Content-Type", "application/json")
					_ = json.NewEncoder(w).Encode(map[string]any{"method": "sendMessage", "chat_id": u.Message.Chat.ID, "text": u.Message.Text})
				}
				if refuse == nil {
					limits(sim, 5, time.Minute)
				}
				flood(sim, 5, 150)
				sim.Write(6, "me, too")
				r := f.role(election.Change{})
				r.noted = true
				r.run()
				after(2 * soon) // a refusal counts after a second
				if _, unanswered := answeredIn(t, sim, 6); unanswered != 0 {
					t.Fatal("chat 6 waits for chat 5")
				}
				for range 5 {
					sim.Write(6, fmt.Sprint("again ", time.Now()))
					after(10 * time.Second)
				}
				waited, unanswered := answeredIn(t, sim, 6)
				for i, d := range waited {
					if d > soon && i > 0 {
						t.Errorf("chat 6 waited %v", d)
					}
				}
				if unanswered != 0 {
					t.Errorf("chat 6 has %d updates without an answer", unanswered)
				}
				after(5 * time.Minute)
				if rep := sim.Report(); rep.Answered != rep.Sent || rep.Confirmed != rep.Sent || rep.AnsweredTwice != 0 || rep.OutOfOrder != 0 || rep.Lost != 0 {
					t.Errorf("the account is %+v", rep)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if len(r.notes) != 0 {
					t.Errorf("%d notes are of no use any more", len(r.notes))
				}
			})
		})
	}
}

// A backend that refuses all chats is one to wait for: nothing is confirmed meanwhile, for Telegram keeps it best.
func TestABackendThatRefusesAllChatsConfirmsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulator()
		f, b := newRelayedOn(t, simulated(sim))
		b.answer = func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusInternalServerError) }
		for i := range 150 {
			sim.Write(int64(5+i%30), fmt.Sprint("message ", i))
		}
		r := f.role(election.Change{})
		r.noted = true
		r.run()
		after(30 * time.Minute)
		if rep := sim.Report(); rep.Confirmed != 0 {
			t.Errorf("%d updates are confirmed that no backend has taken", rep.Confirmed)
		}
	})
}

// Without others that know it, nothing is confirmed before it is handled.
func TestWhatNobodyElseKnowsIsNotConfirmedBeforeItIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, sim := onSimulator(t)
		limits(sim, 5, time.Minute)
		flood(sim, 5, 150)
		sim.Write(6, "me, too")
		r := f.role(election.Change{})
		r.run()
		after(30 * time.Second)
		if rep := sim.Report(); rep.Confirmed != 0 {
			t.Errorf("%d updates are confirmed, and no other replica knows them", rep.Confirmed)
		}
		r.mu.Lock()
		r.noted = true
		r.mu.Unlock()
		after(soon)
		if _, unanswered := answeredIn(t, sim, 6); unanswered != 0 {
			t.Error("chat 6 still waits, though others know what is to be confirmed")
		}
	})
}

// takesOver has another replica take over from r, with what it has told and noted.
func (r *role) takesOver(t *testing.T, sim *simulator.Simulator) *role {
	t.Helper()
	next := newFixtureOn(t, simulated(sim))
	handled := r.term.Handled // what is not reported anew stays known
	if reports := r.reported(); len(reports) > 0 {
		handled = reports[len(reports)-1]
	}
	s := next.role(election.Change{}, handled...)
	r.mu.Lock()
	s.term.Notes = append(s.term.Notes, r.notes...)
	r.mu.Unlock()
	s.noted = true
	s.run()
	return s
}

// What is kept outlives the primary: the successor answers it, in order, whether it was confirmed by then or not.
func TestTheSuccessorAnswersWhatWasKept(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"crash", "handover"} {
		for _, at := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 110 * time.Millisecond, 160 * time.Millisecond, 10 * time.Second, 65 * time.Second} {
			t.Run(fmt.Sprint(ends, " after ", at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f, sim := onSimulator(t)
					limits(sim, 5, time.Minute)
					flood(sim, 5, 150)
					sim.Write(6, "me, too")
					r := f.role(election.Change{})
					r.noted = true
					r.run()
					after(at)
					if ends == "crash" {
						r.cancel()
						<-r.ended
					} else {
						r.drained()
					}
					sim.Write(5, "the last")
					s := r.takesOver(t, sim)
					after(10 * time.Second)
					s.cancel() // and once more
					<-s.ended
					s.takesOver(t, sim)
					after(2 * time.Minute)
					rep := sim.Report()
					if rep.Answered != rep.Sent || rep.Confirmed != rep.Sent || rep.OutOfOrder != 0 || rep.Lost != 0 || rep.AnsweredTwice != 0 {
						t.Errorf("the account is %+v", rep)
					}
				})
			})
		}
	}
}

// What is kept is bounded. Of a chat that has more waiting nothing is given up: Telegram keeps the rest, and with it what others
// write after that.
func TestAFloodIsBoundedAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"short": "x", "long": strings.Repeat("\U0001F600", 500)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, sim := onSimulator(t)
				limits(sim, 5, 40*time.Second)
				r := f.role(election.Change{})
				r.noted = true
				r.run()
				for i := range 25 {
					for j := range 20 {
						sim.Write(5, fmt.Sprintf("%d-%d %s", i, j, text))
					}
					sim.Write(6, fmt.Sprint("hello ", i))
					after(time.Second)
					r.mu.Lock()
					n, size := len(r.notes), 0
					for _, note := range r.notes {
						size += len(note)
					}
					r.mu.Unlock()
					if n > maxKept || size > maxKeptBytes {
						t.Errorf("%d notes of %d bytes", n, size)
					}
				}
				waited, unanswered := answeredIn(t, sim, 6)
				if least := map[string]int{"short": 10, "long": 5}[name]; len(waited) < least {
					t.Errorf("chat 6 has %d updates without an answer", unanswered)
				}
				for _, d := range waited {
					if d > 2*soon {
						t.Errorf("chat 6 waited %v", d)
					}
				}
				if n := strings.Count(f.logs.String(), "other chats wait, too"); n != 1 {
					t.Errorf("the log says so %d times", n)
				}
				after(2 * time.Minute)
				rep := sim.Report()
				if rep.Answered != rep.Sent || rep.Confirmed != rep.Sent || rep.OutOfOrder != 0 || rep.AnsweredTwice != 0 {
					t.Errorf("the account is %+v", rep)
				}
				f.expectOutcome(outcomeFailed, 0)
			})
		})
	}
}

// When Telegram limits the whole bot, no chat has more than its share: nothing is given up, however long that lasts.
func TestALimitOfTheWholeBotLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, sim := onSimulator(t)
		sim.Apply(simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultLimit, Methods: []string{"sendMessage"}, Seconds: 120, RetryAfterSeconds: 7}}})
		r := f.role(election.Change{})
		r.noted = true
		r.run()
		for i := range 40 {
			for chat := range int64(10) {
				sim.Write(100+chat, fmt.Sprint("message ", i))
			}
			after(time.Second)
		}
		after(10 * time.Minute)
		if rep := sim.Report(); rep.Answered != rep.Sent || rep.OutOfOrder != 0 || rep.AnsweredTwice != 0 {
			t.Errorf("the account is %+v", rep)
		}
		f.expectOutcome(outcomeFailed, 0)
	})
}

// Nor is anything kept, or given up, when messages cannot be sent for another reason: Telegram keeps it better.
func TestOnlyWhatWaitsForALimitIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, sim := onSimulator(t)
		sim.Apply(simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultError500, Methods: []string{"sendMessage"}, Chats: []int64{5}, Seconds: 60}}})
		flood(sim, 5, 300)
		r := f.role(election.Change{})
		r.noted = true
		r.run()
		after(30 * time.Second)
		if rep := sim.Report(); rep.Confirmed != 0 {
			t.Errorf("%d updates are confirmed", rep.Confirmed)
		}
		after(15 * time.Minute)
		if rep := sim.Report(); rep.Answered != rep.Sent || rep.OutOfOrder != 0 {
			t.Errorf("the account is %+v", rep)
		}
	})
}

// What a term takes over may be known to no other replica, and not be confirmed yet: it is confirmed once others know it.
func TestWhatWasTakenOverIsNotConfirmedBeforeOthersKnow(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late ", late), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, sim := onSimulator(t)
				limits(sim, 5, time.Minute)
				flood(sim, 5, 150)
				r := f.role(election.Change{})
				r.run()
				after(soon) // offered, and not known
				r.cancel()
				<-r.ended
				next := newFixtureOn(t, simulated(sim))
				s := next.role(election.Change{})
				r.mu.Lock()
				if len(r.notes) == 0 {
					t.Error("nothing is noted")
				}
				if late {
					s.late <- r.notes
				} else {
					s.term.Notes = r.notes
				}
				r.mu.Unlock()
				s.run()
				after(20 * time.Second)
				if rep := sim.Report(); rep.Confirmed != 0 {
					t.Errorf("%d updates are confirmed, and no other replica knows them", rep.Confirmed)
				}
				s.mu.Lock()
				s.noted = true
				s.mu.Unlock()
				after(2 * soon)
				if rep := sim.Report(); rep.Confirmed == 0 {
					t.Error("nothing is confirmed, though others know")
				}
				after(2 * time.Minute)
				if rep := sim.Report(); rep.Answered != rep.Sent || rep.Confirmed != rep.Sent || rep.OutOfOrder != 0 || rep.AnsweredTwice != 0 {
					t.Errorf("the account is %+v", rep)
				}
			})
		})
	}
}

// Others go on keeping what there is no room for, until there is.
func TestWhatHasNoRoomIsTakenOverLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 30))
		r := f.role(election.Change{})
		f.tg.send(2, "now")
		for part, ids := range [][2]int{{1, 40}, {41, 80}} { // of which one has room
			var notes []json.RawMessage
			for id := ids[0]; id <= ids[1]; id++ {
				u := queued{id: id, chat: 1, text: strings.Repeat("x", 800), at: time.Now()}
				notes = append(notes, json.RawMessage(fmt.Sprintf(`{"update_id":%d,"update":%s}`, id, u.json())))
			}
			if part == 0 {
				r.term.Notes = notes
				r.run()
				after(soon)
			} else {
				r.late <- notes
			}
		}
		after(20 * time.Second)
		if r.settled.Load() != 0 {
			t.Error("what had no room is settled")
		}
		after(3 * time.Minute)
		if r.settled.Load() != 1 {
			t.Error("what found room is not settled")
		}
		f.expectOutcome(outcomeAnswered, 81)
	})
}

// What an earlier term kept may turn up once the work has begun. It is answered, unless it is in hand or was answered: Telegram may
// have given it again.
func TestWhatTurnsUpLateIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for _, text := range []string{"a", "b", "c"} {
			f.tg.send(1, text)
		}
		f.tg.answerWith(limitFirst(2, 10))
		f.tg.send(2, "waits")
		r := f.start(election.Change{})
		after(time.Second)
		var notes []json.RawMessage
		for id, text := range map[int]string{900: "kept", 1001: "b", 1003: "waits"} {
			chat := int64(1)
			if id == 1003 {
				chat = 2
			}
			u := queued{id: id, chat: chat, text: text, at: time.Now()}
			notes = append(notes, json.RawMessage(fmt.Sprintf(`{"update_id":%d,"update":%s}`, id, u.json())))
		}
		r.late <- notes
		after(time.Second)
		if r.settled.Load() != 1 {
			t.Error("what was handed in is not settled")
		}
		after(time.Minute)
		f.expectTexts(1, "habot-bot-1: a", "habot-bot-1: b", "habot-bot-1: c", "habot-bot-1: kept")
		f.expectTexts(2, "habot-bot-1: waits", "habot-bot-1: waits") // the first was refused
		r.late <- notes
		after(time.Minute)
		f.expectOutcome(outcomeAnswered, 5)
	})
}

// What a predecessor has handled may still be among what another replica has noted.
func TestWhatWasHandledIsNotAnsweredAgainForANote(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.send(1, "new")
		kept := queued{id: 900, chat: 1, text: "kept", at: time.Now()}
		r := f.role(election.Change{}, 900) // handled and confirmed: the first poll does not show it
		r.late <- []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"update_id":900,"update":%s}`, kept.json()))}
		r.run()
		after(20 * time.Second)
		f.expectTexts(1, "habot-bot-1: new")
		if r.settled.Load() != 1 {
			t.Error("what was handed in is not settled")
		}
	})
}

// While the replicas are asked whether they know what is to be confirmed, something may turn up that none of them knows.
func TestWhatTurnsUpWhileOthersAreAskedIsNotConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 300))
		var before []int
		for i := range 100 {
			before = append(before, f.tg.send(1+int64(i/50), "a")) // chat 1, which waits, then chat 2
		}
		kept := queued{id: f.tg.send(1, "kept"), chat: 1, text: "kept", at: time.Now()}
		r := f.role(election.Change{})
		asked := 0
		r.term.Noted = func() bool {
			if asked++; asked == 1 {
				r.late <- []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"update_id":%d,"update":%s}`, kept.id, kept.json()))}
				time.Sleep(time.Millisecond) // it asks the loop
			}
			return asked == 1
		}
		r.run()
		after(time.Minute)
		f.expectConfirmed(before...)
		if r.settled.Load() != 1 || asked < 2 {
			t.Errorf("settled %d, asked %d times", r.settled.Load(), asked)
		}
	})
}
