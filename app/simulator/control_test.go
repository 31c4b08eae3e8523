package simulator

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/page"
)

func TestFaultAnswersAsTheRealServerWouldUntilItEnds(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct {
		code        int
		description string
	}{
		FaultError500:  {500, "Internal Server Error"},
		FaultToken:     {401, "Unauthorized"},
		FaultLoggedOut: {400, "Logged out"},
		FaultNotFound:  {404, "Not Found"},
		FaultConflict:  {409, conflictPoll},
		FaultLimit:     {429, "Too Many Requests: retry after 7"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.control(fmt.Sprintf(`{"faults":[{"kind":%q,"seconds":10,"retry_after_seconds":7}]}`, kind))
				time.Sleep(10*time.Second - 1)
				a := r.call(alice, "getUpdates")
				a.expect(t, c.code, c.description)
				if kind == FaultLimit && (a.Parameters.RetryAfter != 7 || a.header.Get("Retry-After") != "7") {
					t.Errorf("retry_after %d, Retry-After %q; want 7", a.Parameters.RetryAfter, a.header.Get("Retry-After"))
				}
				time.Sleep(1)
				r.call(alice, "getUpdates").expect(t, http.StatusOK, "")
				if rep := r.Report(); rep.Polls != 1 {
					t.Errorf("%d polls in the account, want the one that reached the queue", rep.Polls)
				}
			})
		})
	}
}

func TestLimitWithoutATimeAsksForASecond(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"faults":[{"kind":"429","seconds":60}]}`)
	if a := r.call(alice, "getMe"); a.Parameters.RetryAfter != 1 {
		t.Errorf("retry_after %d, want 1", a.Parameters.RetryAfter)
	}
}

func TestBadGatewayIsAPageAndNoJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"faults":[{"kind":"html502","seconds":60}]}`)
	code, body := r.get("/bot" + testToken + "/getMe")
	if code != http.StatusBadGateway || !strings.HasPrefix(body, "<html>") {
		t.Errorf("%d %q", code, body)
	}
}

func TestOnlyGetUpdatesConflicts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"faults":[{"kind":"409","seconds":60}]}`)
	r.call(alice, "getMe").expect(t, http.StatusOK, "")
	r.call(alice, "getUpdates").expect(t, http.StatusConflict, conflictPoll)
}

func TestFaultIsConfinedToItsMethodsAndReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"faults":[{"kind":"error500","seconds":60,"methods":["GETME"],"replica":"habot-bot-1"}]}`)
	r.call(alice, "getMe").expect(t, http.StatusInternalServerError, "Internal Server Error")
	r.call(bob, "getMe").expect(t, http.StatusOK, "")
	r.call(alice, "getMyCommands").expect(t, http.StatusOK, "")
	r.control(`{"clear_faults":true}`)
	r.call(alice, "getMe").expect(t, http.StatusOK, "")
}

func TestLatencyDelaysAndThenServes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"faults":[{"kind":"latency","seconds":60,"latency_seconds":1.5}]}`)
		a := r.call(alice, "getMe")
		a.expect(t, http.StatusOK, "")
		a.expectTook(t, 1500*time.Millisecond)
	})
}

func TestHangAnswersNothingWhileItLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"faults":[{"kind":"hang","seconds":3600}]}`)
		ctx, stop := context.WithTimeout(t.Context(), 59*time.Minute)
		defer stop()
		start := time.Now()
		if _, err := r.do(r.request(ctx, alice, "getUpdates", url.Values{})); err == nil {
			t.Error("a hung request was answered")
		}
		if took := time.Since(start); took != 59*time.Minute {
			t.Errorf("it hung %s, want until the client gave up", took)
		}
		if rep := r.Report(); rep.Polls != 0 {
			t.Errorf("%d polls reached the queue, want none", rep.Polls)
		}
	})
}

func TestDropAndAHangThatEndsCloseTheConnection(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"drop": `{"kind":"drop","seconds":60}`,
		"hang": `{"kind":"hang","seconds":0.01}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			server := httptest.NewServer(r.Handler())
			defer server.Close()
			client := server.Client()
			client.Transport = &http.Transport{DisableKeepAlives: true} // or a lost connection is tried again
			r.client, r.base = client, server.URL
			r.control(`{"faults":[` + fault + `]}`)
			if a, err := r.do(r.request(t.Context(), alice, "getMe", url.Values{})); err == nil {
				// A hang so short may be over before the request arrives.
				if name == "drop" || a.code != http.StatusOK {
					t.Errorf("answer %+v, want a lost connection", a)
				}
			}
			r.control(`{"clear_faults":true}`)
			r.call(alice, "getMe").expect(t, http.StatusOK, "")
		})
	}
}

func TestControlThatMakesNoSenseIsRefusedAndDoesNothing(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no JSON":            `rate=1`,
		"unknown field":      `{"rat":1}`,
		"negative rate":      `{"rate":-1}`,
		"rate too high":      `{"rate":10001}`,
		"too much load":      `{"load":{"rate":501,"seconds":1}}`,
		"load without end":   `{"load":{"rate":1,"seconds":601}}`,
		"negative load":      `{"load":{"rate":-1,"seconds":1}}`,
		"too many faults":    `{"faults":[` + strings.Repeat(`{"kind":"401","seconds":1},`, maxFaults) + `{"kind":"401","seconds":1}]}`,
		"unknown fault":      `{"faults":[{"kind":"418","seconds":1}]}`,
		"no duration":        `{"faults":[{"kind":"401"}]}`,
		"too long":           `{"faults":[{"kind":"401","seconds":3601}]}`,
		"negative latency":   `{"faults":[{"kind":"latency","seconds":1,"latency_seconds":-1}]}`,
		"retry after a day":  `{"faults":[{"kind":"429","seconds":1,"retry_after_seconds":86400}]}`,
		"unknown kind":       `{"messages":[{"chat_id":1001,"text":"x"}],"updates":[{"kind":"telegram","payload":{}}]}`,
		"too many messages":  `{"messages":[` + strings.Repeat(`{"chat_id":1},`, maxInjected) + `{"chat_id":1}]}`,
		"message of no sort": `{"messages":[17]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			if code, text := r.post("/control", body); code != http.StatusBadRequest || !strings.Contains(text, "error") {
				t.Errorf("%d %s", code, text)
			}
			if rep := r.Report(); rep.Sent != 0 {
				t.Errorf("%d updates were sent by a control that was refused", rep.Sent)
			}
			r.call(alice, "getMe").expect(t, http.StatusOK, "")
		})
	}
}

func TestControlSetsTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.RunUsers(ctx); close(ended) }()
		r.control(`{"rate":2}`)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if got := r.Report().Sent; got != 20 {
			t.Errorf("%d messages in ten seconds, want 20", got)
		}
		stop()
		<-ended
	})
}

func TestALoadEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.RunUsers(ctx); close(ended) }()
		r.control(`{"rate":1}`)
		sent := func(d time.Duration) int64 {
			before := r.Report().Sent
			time.Sleep(d)
			synctest.Wait()
			return r.Report().Sent - before
		}
		time.Sleep(time.Millisecond)
		if n := sent(10 * time.Second); n != 10 {
			t.Errorf("%d messages in ten seconds before, want 10", n)
		}
		r.control(`{"load":{"rate":500,"seconds":3}}`)
		if n := sent(20 * time.Second); n < 1499 || n > 1517 {
			t.Errorf("%d messages in twenty seconds, want three of 500 and the rest of 1", n)
		}
		r.control(`{"load":{"rate":0,"seconds":600}}`)
		if n := sent(599 * time.Second); n != 0 {
			t.Errorf("%d messages under a load of 0", n)
		}
		r.control(`{"load":{"rate":0,"seconds":0}}`)
		if n := sent(10 * time.Second); n < 9 || n > 10 {
			t.Errorf("%d messages in ten seconds after the load was ended", n)
		}
		stop()
		<-ended
	})
}

func TestAStrangeWebhookConflictsUntilItsTimeIsOverOrTheBotDeletesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		waits := r.background(alice, "getUpdates", "timeout", "50")
		r.control(`{"faults":[{"kind":"webhook","seconds":30}]}`)
		(<-waits).expect(t, http.StatusConflict, conflictSetHook)
		time.Sleep(29 * time.Second)
		r.call(alice, "getUpdates").expect(t, http.StatusConflict, conflictWebhook)
		r.call(alice, "getMe").expect(t, http.StatusOK, "")
		time.Sleep(time.Second)
		r.call(alice, "getUpdates").expect(t, http.StatusOK, "")

		r.control(`{"faults":[{"kind":"webhook","seconds":30}]}`)
		began := time.Now()
		r.call(alice, "deleteWebhook").expect(t, http.StatusOK, "Webhook was deleted")
		r.call(alice, "getUpdates").expect(t, http.StatusOK, "")
		shades := r.frame(0).Shades
		if last := shades[len(shades)-1]; last.To > page.At(began.Add(5*time.Second)) {
			t.Errorf("the page shows the fault until %d, it was over at %d", last.To, page.At(began))
		}
		r.control(`{"faults":[{"kind":"webhook","seconds":30}]}`)
		r.control(`{"clear_faults":true}`)
		r.call(alice, "getUpdates").expect(t, http.StatusOK, "")

		// One of the bot's own outlives the fault.
		r.control(`{"faults":[{"kind":"webhook","seconds":30}]}`)
		r.call(alice, "setWebhook", "url", "https://example.com/own").expect(t, http.StatusOK, "Webhook was set")
		time.Sleep(31 * time.Second)
		r.call(alice, "getUpdates").expect(t, http.StatusConflict, conflictWebhook)
	})
}

// A webhook is the bot's: it conflicts with every replica, and for as long as the last of such faults lasts.
func TestStrangeWebhooksOverlapAndHitEveryReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"faults":[{"kind":"webhook","seconds":10},{"kind":"webhook","seconds":30,"replica":"` + bob + `"}]}`)
		for _, shade := range r.frame(0).Shades {
			if shade.Who != "" {
				t.Errorf("the page shows it as a fault of %s alone", shade.Who)
			}
		}
		time.Sleep(20 * time.Second)
		r.call(alice, "getUpdates").expect(t, http.StatusConflict, conflictWebhook)
		time.Sleep(10 * time.Second)
		r.call(alice, "getUpdates").expect(t, http.StatusOK, "")
	})
}

func TestOfTooManyFaultsTheOldestEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.control(`{"faults":[` + strings.Repeat(`{"kind":"401","seconds":3600},`, maxFaults-1) + `{"kind":"error500","seconds":3600}]}`)
	}
	if n := len(r.faults); n != maxFaults {
		t.Errorf("%d faults last", n)
	}
}

func TestInjectedUpdatesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"updates":[{"kind":"callback_query","payload":{"id":"77","data":"x<y"}},{"kind":"chat_member","payload":{}}]}`)
	a := r.call(alice, "getUpdates")
	if n := len(updateIDs(t, a)); n != 1 {
		t.Errorf("%d updates, want 1: chat_member is not taken by default", n)
	}
	for _, part := range []string{`"callback_query":{`, `"id":"77"`} {
		if !strings.Contains(string(a.Result), part) {
			t.Errorf("%s lacks %s", a.Result, part)
		}
	}
}

func TestCommandIsMarkedAsOneAndExpectsNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"messages":[{"chat_id":5,"text":"/start now"}]}`)
	a := r.call(alice, "getUpdates")
	if !strings.Contains(string(a.Result), `"entities":[{"length":6,"offset":0,"type":"bot_command"}]`) {
		t.Errorf("%s", a.Result)
	}
	if rep := r.Report(); rep.Sent != 1 || rep.Unanswered != 0 {
		t.Errorf("sent %d, unanswered %d; want 1, 0", rep.Sent, rep.Unanswered)
	}
	r.call(alice, "sendMessage", "chat_id", "5", "text", "welcome").expect(t, http.StatusOK, "") // the chat was made
}

// What a request asks for has happened, and its sender does not know: that is how answers come twice.
func TestFaultsMayComeAfterTheRequestWasCarriedOut(t *testing.T) {
	t.Parallel()
	for kind, code := range map[string]int{FaultTakenLate: 200, FaultTaken502: 502, FaultTakenDrop: 0} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			server := httptest.NewServer(r.Handler())
			defer server.Close()
			client := server.Client()
			client.Transport = &http.Transport{DisableKeepAlives: true} // or a lost connection is tried again
			r.client, r.base = client, server.URL
			r.Write(FirstChat, "hello")
			r.Write(FirstChat+1, "hello")
			r.control(`{"faults":[{"kind":"` + kind + `","seconds":60,"latency_seconds":0.05,"chats":[1001]},{"kind":"` + kind + `","seconds":60,"methods":["getUpdates"]}]}`)
			a, err := r.do(r.request(t.Context(), alice, "sendMessage", url.Values{"chat_id": {"1001"}, "text": {"hello"}}))
			if (err != nil) != (code == 0) || a.code != code {
				t.Errorf("answer %+v, %v; want %d", a, err, code)
			}
			r.call(alice, "sendMessage", "chat_id", "1002", "text", "hello").expect(t, http.StatusOK, "")
			if rep := r.Report(); rep.Answered != 2 {
				t.Errorf("%d messages were taken, want both", rep.Answered)
			}
			_, err = r.do(r.request(t.Context(), alice, "getUpdates", url.Values{"offset": {"-1"}}))
			if rep := r.Report(); rep.Polls != 1 || (rep.Delivered == 0) != (code != 200) {
				t.Errorf("%d polls, %d updates delivered (%v)", rep.Polls, rep.Delivered, err)
			}
		})
	}
}

func TestALateAnswerIsLateAndWhatItAnswersIsNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Write(FirstChat, "hello")
		r.control(`{"faults":[{"kind":"taken_late","seconds":60,"latency_seconds":11}]}`)
		answer := r.background(alice, "sendMessage", "chat_id", "1001", "text", "hello")
		if rep := r.Report(); rep.Answered != 1 {
			t.Error("the message was not taken at once")
		}
		a := <-answer
		a.expect(t, http.StatusOK, "")
		a.expectTook(t, 11*time.Second)
	})
}

// A page that a user opens in their browser while the demo runs must not drive it.
func TestOtherPagesCannotControlTheSimulator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		what, kind, host, origin string
		code                     int
	}{
		{"a program", "application/json", "127.0.0.1:8081", "", 200},
		{"a program that names the character set", "application/json; charset=utf-8", "localhost:8081", "", 200},
		{"a program in the same network", "application/json", "telegram:8081", "", 200},
		{"a program, IPv6", "application/json", "[::1]:8081", "", 200},
		{"our own page", "application/json", "localhost:8081", "http://localhost:8081", 200},
		{"a form of another page", "application/x-www-form-urlencoded", "localhost:8081", "http://evil.example", 403},
		{"a text of another page", "text/plain", "localhost:8081", "http://evil.example", 403},
		{"a page without a kind", "", "localhost:8081", "", 403},
		{"another page", "application/json", "localhost:8081", "http://evil.example", 403},
		{"another port's page", "application/json", "localhost:8081", "http://localhost:3000", 403},
		{"a sandboxed page", "application/json", "localhost:8081", "null", 403},
		{"a name that leads to the loopback", "application/json", "evil.example:8081", "http://evil.example:8081", 403},
		{"a name that begins like it", "application/json", "127.0.0.1.evil.example", "", 403},
	} {
		req := httptest.NewRequest(http.MethodPost, "/control", strings.NewReader(`{"messages":[{"chat_id":1001,"text":"x"}]}`))
		req.Host = c.host
		req.Header.Set("Content-Type", c.kind)
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		sent, w := r.Report().Sent, httptest.NewRecorder()
		r.http.Handler.ServeHTTP(w, req)
		if moved := r.Report().Sent != sent; w.Code != c.code || moved != (c.code == 200) {
			t.Errorf("%s: %d %s, carried out: %t", c.what, w.Code, w.Body, moved)
		}
	}
}
