package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// reader takes what is written to it only while it is open.
type reader struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

// A container's log that is not read MUST delay neither the election nor the fail-stop.
func TestNobodyWaitsForALogThatIsNotRead(t *testing.T) {
	t.Parallel()
	r := &reader{}
	r.mu.Lock() // it stalls
	q := NewQueue(r, true, "replica", "r7")
	log := New(q, slog.LevelInfo, true)
	const lines = 3 * queueLength
	for i := range lines { // would never end if it waited
		log.Info("line", "n", i)
	}
	q.Flush(time.Millisecond)
	r.mu.Unlock()
	for strings.Count(r.text(), "dropped") == 0 {
		q.Flush(time.Second)
	}
	written, dropped := 0, 0
	for line := range strings.Lines(r.text()) {
		var entry struct {
			Msg     string
			Omitted int
			Replica string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("a line that is no JSON: %q", line)
		}
		if entry.Msg == "line" {
			written++
		}
		if dropped += entry.Omitted; entry.Omitted > 0 && entry.Replica != "r7" {
			t.Errorf("a line without its replica: %s", line)
		}
	}
	if written+dropped != lines || written < queueLength {
		t.Errorf("%d written and %d dropped of %d", written, dropped, lines)
	}
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func TestLinesKeepTheirOrderAndFlushWaitsForThem(t *testing.T) {
	t.Parallel()
	r := &reader{}
	q := NewQueue(r, false)
	for i := range 100 {
		if _, err := fmt.Fprintf(q, "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	q.Flush(time.Minute)
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(&want, "%d\n", i)
	}
	if got := r.text(); got != want.String() {
		t.Errorf("written: %q", got)
	}
}

// A person reads when, how bad, what, and what is known about it: not what is empty, and no figure of a dozen digits that
// only programs compare.
func TestTextForPeopleJSONForPrograms(t *testing.T) {
	t.Parallel()
	type reason string
	attrs := []any{"replica", "r1", "reason", reason("crash"), "previous", "", "was", reason(""), "omitted", 0, "self", false, "drain", true,
		"nobody_for_seconds", 0.56390867, "away_seconds", 0.0, "timestamp_ns", int64(1795639491830609714), "instances", []string{"a", "b"},
		"detail", "two words\nand a line\x1b[31m", "error", errors.New("it failed"), "failures", 3}
	for json, want := range map[bool]string{
		false: `INFO  primary changed replica=r1 reason=crash drain=true nobody_for_seconds=0.564 instances="[a b]"` +
			` detail="two words\nand a line" error="it failed" failures=3` + "\n",
		true: `"level":"INFO","msg":"primary changed","replica":"r1","reason":"crash","previous":"","was":"","omitted":0,"self":false,"drain":true,` +
			`"nobody_for_seconds":0.56390867,"away_seconds":0,"timestamp_ns":1795639491830609714,"instances":["a","b"],` +
			`"detail":"two words\nand a line\u001b[31m","error":"it failed","failures":3}` + "\n",
	} {
		var b bytes.Buffer
		New(&b, slog.LevelInfo, json).With(attrs[:2]...).Info("primary changed", attrs[2:]...)
		head := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) `)
		if json {
			head = regexp.MustCompile(`^{"time":"[^"]+",`)
		}
		got := b.String()
		if !head.MatchString(got) || head.ReplaceAllString(got, "") != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
	}
}

// What a line is made of may come from elsewhere: it stays one line.
func TestOneLineStaysOneLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := New(&b, slog.LevelDebug, false)
	log.Debug("first\nsecond")
	log.Error("as it is: \"quoted\", ü")
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, ` DEBUG "first\nsecond"`+"\n") || !strings.Contains(got, ` ERROR as it is: "quoted", ü`+"\n") {
		t.Errorf("wrote %q", got)
	}
}
