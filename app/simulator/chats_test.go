package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// message is what the bot is sent of one.
type message struct {
	Chat struct {
		ID    int64  `json:"id"`
		Type  string `json:"type"`
		Forum bool   `json:"is_forum"`
	} `json:"chat"`
	Text    string `json:"text"`
	Thread  int    `json:"message_thread_id"`
	Topic   bool   `json:"is_topic_message"`
	MovedTo int64  `json:"migrate_to_chat_id"`
	CameOf  int64  `json:"migrate_from_chat_id"`
}

func (r *rig) messages() []message {
	r.t.Helper()
	var updates []struct {
		Message message `json:"message"`
	}
	if err := json.Unmarshal(r.call(alice, "getUpdates").Result, &updates); err != nil {
		r.t.Fatal(err)
	}
	var all []message
	for _, u := range updates {
		all = append(all, u.Message)
	}
	return all
}

func TestForumsHaveTopicsAndGeneral(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const forum, plain = "-1001000000001", "-1001000000002"
	r.control(`{"forums":[{"chat_id":` + forum + `,"topics":[17,18]}],"messages":[
		{"chat_id":` + forum + `,"text":"in a topic","message_thread_id":17},
		{"chat_id":` + forum + `,"text":"in General","message_thread_id":1},
		{"chat_id":` + forum + `,"text":"in General, too"},
		{"chat_id":` + plain + `,"text":"a reply","message_thread_id":4}]}`)
	got := r.messages()
	if len(got) != 4 {
		t.Fatalf("%+v", got)
	}
	for i, want := range []struct {
		thread       int
		topic, forum bool
	}{{17, true, true}, {0, false, true}, {0, false, true}, {4, false, false}} {
		if m := got[i]; m.Thread != want.thread || m.Topic != want.topic || m.Chat.Forum != want.forum || m.Chat.Type != "supergroup" {
			t.Errorf("%+v, want %+v", m, want)
		}
	}
	for _, thread := range []string{"1", "19"} {
		r.call(alice, "sendMessage", "chat_id", forum, "text", "x", "message_thread_id", thread).
			expect(t, http.StatusBadRequest, "Bad Request: message thread not found")
	}
	sent := r.call(alice, "sendMessage", "chat_id", forum, "text", "bot: in a topic", "message_thread_id", "17")
	sent.expect(t, http.StatusOK, "")
	if !strings.Contains(string(sent.Result), `"message_thread_id":17`) || !strings.Contains(string(sent.Result), `"is_topic_message":true`) {
		t.Errorf("%s", sent.Result)
	}
	r.call(alice, "sendMessage", "chat_id", forum, "text", "bot: in General").expect(t, http.StatusOK, "")
	// Where there are no topics the number is not looked at.
	r.call(alice, "sendMessage", "chat_id", plain, "text", "bot: a reply", "message_thread_id", "4").expect(t, http.StatusOK, "")
	if rep := r.Report(); rep.Answered != 3 || rep.Misplaced != 0 {
		t.Errorf("answered %d, misplaced %d; want 3, 0", rep.Answered, rep.Misplaced)
	}
	r.call(alice, "sendMessage", "chat_id", forum, "text", "bot: in General, too", "message_thread_id", "18").expect(t, http.StatusOK, "")
	if rep := r.Report(); rep.Misplaced != 1 {
		t.Errorf("%d answers in a wrong topic, want 1", rep.Misplaced)
	}
}

func TestAGroupThatBecameASupergroupTakesNoMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"messages":[{"chat_id":-5,"text":"hello"}],"migrations":[{"from":-5,"to":-1001000000001}]}`)
	got := r.messages()
	if len(got) != 3 || got[0].Chat.Type != "group" || got[1].Chat.ID != -5 || got[1].MovedTo != -1001000000001 ||
		got[2].Chat.ID != -1001000000001 || got[2].CameOf != -5 || got[2].Chat.Type != "supergroup" {
		t.Fatalf("%+v", got)
	}
	for method, pairs := range map[string][]string{
		"sendMessage":    {"chat_id", "-5", "text", "x"},
		"sendChatAction": {"chat_id", "-5", "action", "typing"},
		"setMyCommands":  {"commands", "[]", "scope", `{"type":"chat","chat_id":-5}`},
	} {
		a := r.call(alice, method, pairs...)
		a.expect(t, http.StatusBadRequest, "Bad Request: group chat was upgraded to a supergroup chat")
		if a.Parameters.MigrateToChatID != -1001000000001 || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %+v", method, a)
		}
	}
	r.call(alice, "sendMessage", "chat_id", "-1001000000001", "text", "bot: hello").expect(t, http.StatusOK, "")
	if rep := r.Report(); rep.Answered != 1 || rep.StrayMessages != 0 {
		t.Errorf("answered %d, stray %d: an answer at the new id is one", rep.Answered, rep.StrayMessages)
	}
	r.control(`{"messages":[{"chat_id":-5,"text":"nobody can write there"}]}`)
	if rep := r.Report(); rep.Sent != 3 {
		t.Errorf("%d updates, want 3", rep.Sent)
	}
}

func TestChatsMayBeLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"chat_limit":{"messages":2,"seconds":10}}`)
		send := func(chat string) reply { return r.call(alice, "sendMessage", "chat_id", chat, "text", "x") }
		send("1001").expect(t, http.StatusOK, "")
		time.Sleep(4 * time.Second)
		send("1001").expect(t, http.StatusOK, "")
		time.Sleep(500 * time.Millisecond)
		a := send("1001")
		a.expect(t, http.StatusTooManyRequests, "Too Many Requests: retry after 6")
		if a.Parameters.RetryAfter != 6 || a.header.Get("Retry-After") != "6" {
			t.Errorf("%+v", a)
		}
		send("1002").expect(t, http.StatusOK, "")
		time.Sleep(6 * time.Second)
		send("1001").expect(t, http.StatusOK, "")
		send("1001").expect(t, http.StatusTooManyRequests, "Too Many Requests: retry after 4")
		r.control(`{"chat_limit":{"messages":0}}`)
		send("1001").expect(t, http.StatusOK, "")
	})
}

func TestControlOfChatsIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, body := range []string{
		`{"forums":[{"chat_id":-5,"topics":[2]}]}`, `{"forums":[{"chat_id":-1001000000001,"topics":[1]}]}`, `{"migrations":[{"from":5,"to":-1001000000001}]}`,
		`{"migrations":[{"from":-5,"to":-6}]}`, `{"chat_limit":{"messages":-1}}`, `{"chat_limit":{"messages":1}}`, `{"chat_limit":{"messages":1,"seconds":4000}}`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/control", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if a, err := r.do(req); err != nil || a.code != http.StatusBadRequest {
			t.Errorf("%s: %d, %v", body, a.code, err)
		}
	}
}
