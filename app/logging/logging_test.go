package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

// A container's log that nobody drains MUST hold up neither the election nor the fail-stop.
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

func TestTextForPeopleJSONForMachines(t *testing.T) {
	t.Parallel()
	for json, want := range map[bool]string{false: "msg=hello", true: `"msg":"hello"`} {
		var b bytes.Buffer
		New(io.Writer(&b), slog.LevelInfo, json).Info("hello")
		if !strings.Contains(b.String(), want) {
			t.Errorf("wrote %q", b.String())
		}
	}
}
