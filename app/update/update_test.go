package update

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func split(t *testing.T, result string) []Update {
	t.Helper()
	updates, err := Split([]byte(result))
	if err != nil {
		t.Fatalf("Split(%s): %v", result, err)
	}
	return updates
}

// What no version of this program can know reaches the bot as it came: fields, kinds, numbers that float64 cannot
// hold, escapes, spaces, bytes that are no UTF-8.
func TestUpdatesStayByteForByte(t *testing.T) {
	t.Parallel()
	updates := []string{
		`{"update_id":10000,"telepathy":{"thought_id":9007199254740993,"weight":1.10,"chat":{"id":-1002147483648,"aura":null}},"extra":[1,2]}`,
		`{"update_id": 10001 , "message" : {"message_id":1,"date":1700000000,"chat":{"id":5,"type":"private"},"text":"a\u00e9\/\ud83d\ude00 <&>"}}`,
		"{\n\t\"message\":{\"chat\":{\"id\":5},\"big\":123456789012345678901234567890,\"float\":1e400,\"raw\":\"\xff\xfe\"},\n\t\"update_id\":10002\n}",
		`{"update_id":10003}`,
	}
	got := split(t, "[ "+strings.Join(updates, " ,\n")+" ]")
	if len(got) != len(updates) {
		t.Fatalf("%d updates, want %d", len(got), len(updates))
	}
	for i, want := range updates {
		if string(got[i].Raw) != want {
			t.Errorf("update %d is %q, want %q", i, got[i].Raw, want)
		}
		if got[i].ID != int64(10000+i) {
			t.Errorf("update %d has the id %d", i, got[i].ID)
		}
	}
	if got[0].Kind != "telepathy" || got[0].Chat != -1002147483648 {
		t.Errorf("a future kind is read as %q in chat %d", got[0].Kind, got[0].Chat)
	}
	if got[3].Kind != "" || got[3].Queue != 0 {
		t.Errorf("an update without content is %+v", got[3])
	}
}

func TestQueuesAreTheRealServers(t *testing.T) {
	t.Parallel()
	const user, chat = 7_000_000_001, -1001234567890
	from, in := fmt.Sprintf(`"from":{"id":%d}`, user), fmt.Sprintf(`"chat":{"id":%d}`, chat)
	for kind, tt := range map[string]struct {
		content string
		queue   int64
		chat    int64
		query   string
	}{
		"message":                   {from + "," + in, chat, chat, ""},
		"edited_message":            {from + "," + in, chat, chat, ""},
		"channel_post":              {in, chat, chat, ""},
		"edited_channel_post":       {in, chat, chat, ""},
		"inline_query":              {`"id":"9007199254740993",` + from, user + 1<<33, 0, "9007199254740993"},
		"chosen_inline_result":      {from, user + 2<<33, 0, ""},
		"callback_query":            {`"id":"77",` + from + `,"message":{"date":1,` + in + "}", user + 3<<33, chat, "77"},
		"shipping_query":            {`"id":"78",` + from, user + 4<<33, 0, "78"},
		"pre_checkout_query":        {`"id":"79",` + from, user + 4<<33, 0, "79"},
		"my_chat_member":            {from + "," + in, chat + 5<<33, chat, ""},
		"chat_member":               {`"from":{"id":3},` + in + fmt.Sprintf(`,"new_chat_member":{"status":"left","user":{"id":%d}}`, user), user + 6<<33, chat, ""},
		"chat_join_request":         {from + "," + in, user + 6<<33, chat, ""},
		"chat_boost":                {in, chat + 7<<33, chat, ""},
		"removed_chat_boost":        {in, chat + 7<<33, chat, ""},
		"message_reaction":          {`"user":{"id":3},` + in, chat + 8<<33, chat, ""},
		"message_reaction_count":    {in, chat + 9<<33, chat, ""},
		"business_connection":       {fmt.Sprintf(`"id":"abc","user":{"id":%d}`, user), user + 10<<33, 0, ""},
		"business_message":          {from + "," + in, chat + 11<<33, chat, ""},
		"edited_business_message":   {from + "," + in, chat + 11<<33, chat, ""},
		"deleted_business_messages": {in, chat + 11<<33, chat, ""},
		"purchased_paid_media":      {from, user + 12<<33, 0, ""},
		"guest_message":             {`"guest_query_id":"80",` + from + "," + in, chat + 12<<33, chat, "80"},
		"managed_bot":               {fmt.Sprintf(`"user":{"id":%d}`, user), user + 13<<33, 0, ""},
		"poll":                      {`"id":"5467","question":"?"`, 5467, 0, ""},
		"poll_answer":               {fmt.Sprintf(`"poll_id":"5467","user":{"id":%d}`, user), 5467, 0, ""},
		"of_the_future":             {from + "," + in, chat + 14<<33, chat, ""},
		"of_a_user":                 {from, user + 14<<33, 0, ""},
		"of_nobody":                 {`"x":1`, 0, 0, ""},
		"odd":                       {`"chat":"5","from":[],"date":"x"`, 0, 0, ""},
	} {
		u := split(t, fmt.Sprintf(`[{"update_id":1,%q:{%s}}]`, kind, tt.content))[0]
		if u.Kind != kind || u.Queue != tt.queue || u.Chat != tt.chat || u.Query != tt.query {
			t.Errorf("%s: kind %q, queue %d, chat %d, query %q; want queue %d, chat %d, query %q", kind, u.Kind, u.Queue, u.Chat, u.Query,
				tt.queue, tt.chat, tt.query)
		}
	}
}

func TestDateIsTheContents(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]int64{
		`"message":{"date":100}`:                        100,
		`"edited_message":{"date":100,"edit_date":200}`: 200,
		`"callback_query":{"message":{"date":100}}`:     0, // when the button was sent, not pressed
		`"message":{"date":-5}`:                         0,
	} {
		u := split(t, `[{"update_id":1,`+content+`}]`)[0]
		if want == 0 && !u.Date.IsZero() || want != 0 && !u.Date.Equal(time.Unix(want, 0)) {
			t.Errorf("%s: date %v, want %d", content, u.Date, want)
		}
	}
}

func TestSplitRefusesWhatIsNoListOfUpdates(t *testing.T) {
	t.Parallel()
	for _, result := range []string{
		"", "{}", "null", "true", `"x"`, "[", `[{"update_id":1}`, "[1]", "[null]", "[[]]", `[{}]`, `[{"update_id":"1"}]`, `[{"update_id":0}]`,
		`[{"update_id":-1}]`, `[{"update_id":1.5}]`, `[{"update_id":99999999999999999999}]`, `[{"update_id":1},{"message":{}}]`,
		"[" + strings.Repeat(`{"update_id":1},`, MaxBatch) + `{"update_id":1}]`,
	} {
		if _, err := Split([]byte(result)); !errors.Is(err, ErrMalformed) {
			t.Errorf("Split(%.60q): %v, want ErrMalformed", result, err)
		}
	}
	for _, result := range []string{"[]", " [ ] "} {
		if updates, err := Split([]byte(result)); err != nil || len(updates) != 0 {
			t.Errorf("Split(%s): %v, %v", result, updates, err)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]time.Duration{
		"message": 24 * time.Hour, "callback_query": 150 * time.Second, "inline_query": 30 * time.Second, "chosen_inline_result": 10 * time.Minute, "new": 24 * time.Hour,
	} {
		if got := Retention(kind); got != want {
			t.Errorf("Retention(%s) = %v, want %v", kind, got, want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(`[{"update_id":1,"message":{"date":1,"chat":{"id":5}}},{"update_id":2,"x":{"from":{"id":9007199254740993}}}]`))
	f.Add([]byte(`[{"update_id":1,"poll":{"id":"12"}},{"update_id":2,"callback_query":{"id":7,"message":{"chat":{"id":1}},"from":{"id":2}}}]`))
	f.Add([]byte(`[{"update_id":1,"update_id":2,"a":{},"b":{}}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, result []byte) {
		before := bytes.Clone(result)
		updates, err := Split(result)
		if !bytes.Equal(before, result) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		rest := result
		for _, u := range updates {
			at := bytes.Index(rest, u.Raw)
			if at < 0 {
				t.Fatalf("%q is not in the input", u.Raw)
			}
			rest = rest[at+len(u.Raw):]
			if u.ID <= 0 || !json.Valid(u.Raw) {
				t.Fatalf("an update is %+v", u)
			}
		}
		// Put together again they are the same updates.
		raws := make([][]byte, 0, len(updates))
		for _, u := range updates {
			raws = append(raws, u.Raw)
		}
		again, err := Split(append(append([]byte("["), bytes.Join(raws, []byte(","))...), ']'))
		if err != nil || len(again) != len(updates) {
			t.Fatalf("split again: %d updates, %v; want %d", len(again), err, len(updates))
		}
		for i := range again {
			if again[i].Queue != updates[i].Queue || again[i].Kind != updates[i].Kind || again[i].ID != updates[i].ID {
				t.Fatalf("split again: %+v, want %+v", again[i], updates[i])
			}
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	one := `{"update_id":%d,"message":{"message_id":1,"from":{"id":5,"is_bot":false,"first_name":"User"},"chat":{"id":5,"type":"private"},"date":1700000000,"text":"message"}}`
	list := make([]string, 0, MaxBatch)
	for i := range MaxBatch {
		list = append(list, fmt.Sprintf(one, i+1))
	}
	result := []byte("[" + strings.Join(list, ",") + "]")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Split(result); err != nil {
			b.Fatal(err)
		}
	}
}
