// Package logging makes the process' log. Logging never blocks: lines go through a bounded queue. When the
// reader stalls, lines are dropped and counted, so that it delays neither the election nor the fail-stop.
// LOG.md lists what is logged, and its keys.
//
// It may import the standard library, golang.org/x/time/rate, and github.com/lmittmann/tint for lines that people read.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/lmittmann/tint"
)

// queueLength bounds the lines that wait to be written.
const queueLength = 1024

// Queue writes lines in the background. It is safe for concurrent use.
type Queue struct {
	lines   chan []byte
	flushes chan chan struct{}
	dropped atomic.Int64
	own     *slog.Logger // for lines about the log itself
}

// NewQueue returns a queue in front of w. It writes until the process ends. Lines of its own are JSON if json, so that
// every line is, and carry attrs, as the lines of the process are to do.
func NewQueue(w io.Writer, json bool, attrs ...any) *Queue {
	q := &Queue{lines: make(chan []byte, queueLength), flushes: make(chan chan struct{}), own: New(w, slog.LevelInfo, json).With(attrs...)}
	go q.run(w)
	return q
}

// Write takes one line. It never blocks and never fails.
func (q *Queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// Flush waits until what was taken is written, at most for d.
func (q *Queue) Flush(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	done := make(chan struct{})
	select {
	case q.flushes <- done:
	case <-t.C:
		return
	}
	select {
	case <-done:
	case <-t.C:
	}
}

func (q *Queue) run(w io.Writer) {
	for {
		select {
		case line := <-q.lines:
			q.write(w, line)
		case done := <-q.flushes:
			for len(q.lines) > 0 {
				q.write(w, <-q.lines)
			}
			close(done)
		}
	}
}

func (q *Queue) write(w io.Writer, line []byte) {
	_, err := w.Write(line)
	if err != nil {
		return // a log that cannot be written has nowhere to say so
	}
	if n := q.dropped.Swap(0); n > 0 {
		q.own.Warn("lines of the log were dropped: they were not read in time", "omitted", n)
	}
}

// New returns a logger that writes to w: text for people, JSON for programs.
func New(w io.Writer, level slog.Level, json bool) *slog.Logger {
	if json {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: true, TimeFormat: "2006-01-02T15:04:05.000Z07:00", ReplaceAttr: readable}))
}

// readable makes of an attribute what people read: nothing if it is empty, 0 or false.
func readable(groups []string, a slog.Attr) slog.Attr {
	v := a.Value.Any()
	switch {
	case len(groups) == 0 && a.Key == slog.LevelKey:
		return slog.String(a.Key, fmt.Sprintf("%-5s", v))
	case len(groups) == 0 && a.Key == slog.MessageKey:
		if strings.ContainsFunc(a.Value.String(), unicode.IsControl) {
			return slog.String(a.Key, strconv.Quote(a.Value.String()))
		}
	case v == nil, reflect.ValueOf(v).IsZero(), a.Key == "timestamp_ns":
		return slog.Attr{}
	case a.Value.Kind() == slog.KindFloat64:
		return slog.Float64(a.Key, math.Round(a.Value.Float64()*1000)/1000)
	}
	return a
}
