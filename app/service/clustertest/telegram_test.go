package clustertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"time"

	"habot/app/simulator"
)

const (
	chats = 4
	html  = "<html><body><h1>502 Bad Gateway</h1></body></html>"
)

var errReset = errors.New("read: connection reset by peer")

// wire is one process's way to Telegram.
type wire struct{ from *process }

// fate is what becomes of a request to Telegram.
type fate int

const (
	served    fate = iota
	reset          // the connection breaks before the server has the request
	swallowed      // the request never arrives: it hangs until it is given up
	refused        // a proxy answers 500 in the server's place
	page           // a proxy answers 502 with a page
	// The server takes it in, but the answer:
	resetAfter // breaks off
	lostAfter  // never arrives
	pageAfter  // is a proxy's 502
)

func fates() []string {
	return []string{"served", "reset", "swallowed", "500", "502", "reset after it was taken in", "lost after it was taken in", "502 after it was taken in"}
}

// request is one request that left, as the judge keeps it.
type request struct {
	p       *process
	term    *term // nil for getMe
	method  string
	left    time.Time
	arrived time.Time // when the server had carried it out; zero if it never did
	heard   bool      // a good answer reached the process
	chat    int64     // of a sendMessage
	text    string    // the user's, in an answer
	by      string    // its name for itself, in an answer
}

type response struct {
	code int
	kind string
	body []byte
	err  error
}

// RoundTrip implements http.RoundTripper.
func (v wire) RoundTrip(req *http.Request) (*http.Response, error) {
	p, w, ctx := v.from, v.from.w, req.Context()
	method := path.Base(req.URL.Path)
	defer func() { _ = req.Body.Close() }() // in memory
	way := p.host.name + " to " + telegram + " " + method
	r := w.draw(way)
	w.mu.Lock()
	n, late := w.noise, time.Duration(0)
	if method == "sendMessage" {
		late = w.answersLate
	}
	w.mu.Unlock()
	what := served
	if r.Float64() < n.failing {
		what = fate(1 + r.IntN(int(pageAfter)))
		w.disturbs("request " + fates()[what])
	}
	latency := func() time.Duration { return hop + time.Duration(r.Int64N(int64(max(n.latency, 1)))) }
	connect, there, back := latency(), latency(), latency()+late
	if !wait(ctx, connect) { // a connection is made
		return nil, ctx.Err()
	}
	if err := p.door(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		w.count("request held back: the lease had ended")
		w.tell("%s  %s is held back: %v", p.host.name, method, err)
		return nil, err
	}
	sent := w.leaves(p, method, body)
	if sent == nil {
		return nil, errGone
	}
	answers := make(chan response, 1)
	w.wires.Go(func() { v.serve(ctx, req, body, sent, what, there, back, answers) })
	select {
	case a := <-answers:
		if err := p.door(); err != nil {
			return nil, err
		}
		if a.err != nil {
			return nil, a.err
		}
		w.answers(sent, a.code)
		return &http.Response{
			StatusCode: a.code, Status: http.StatusText(a.code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: http.Header{"Content-Type": {a.kind}}, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.life.Done():
		return nil, errGone
	}
}

// serve takes a request to Telegram and its answer back. ctx is the client's: when it or the process ends the
// connection closes. The server notices that, if the network lets it.
func (v wire) serve(ctx context.Context, req *http.Request, body []byte, sent *request, what fate, there, back time.Duration, answers chan<- response) {
	p, w := v.from, v.from.w
	name := p.host.name
	if !w.travel(name, telegram, there, false) {
		return
	}
	switch what {
	case reset:
		answers <- response{err: errReset}
		return
	case swallowed:
		return
	case refused:
		answers <- response{code: 500, kind: "application/json", body: []byte(`{"ok":false,"error_code":500,"description":"Internal Server Error"}`)}
		return
	case page:
		answers <- response{code: 502, kind: "text/html", body: []byte(html)}
		return
	}
	connected, closed := context.WithCancel(w.over)
	defer closed()
	hangUp := func() {
		w.wires.Go(func() {
			if w.pause(there) && !w.isCut(name, telegram) {
				closed()
			}
		})
	}
	defer context.AfterFunc(ctx, hangUp)()
	defer context.AfterFunc(p.life, hangUp)()
	a := w.serveHTTP(connected, req, body)
	w.isServed(sent, a)
	switch {
	case what == resetAfter:
		a = response{err: errReset}
	case what == pageAfter:
		a = response{code: 502, kind: "text/html", body: []byte(html)}
	case what == lostAfter:
		return
	}
	if connected.Err() == nil && w.travel(telegram, name, back, false) {
		answers <- a
	}
}

// serveHTTP is the simulator's answer to a request.
func (w *world) serveHTTP(ctx context.Context, req *http.Request, body []byte) response {
	in := req.Clone(ctx)
	in.Body, in.RemoteAddr = io.NopCloser(bytes.NewReader(body)), "192.0.2.1:1234"
	rec := &recorder{ResponseRecorder: httptest.NewRecorder()}
	w.sim.Handler().ServeHTTP(rec, in)
	if rec.hijacked || rec.Body.Len() == 0 { // taken away, or its client was gone
		return response{err: errReset}
	}
	return response{code: rec.Code, kind: rec.Header().Get("Content-Type"), body: rec.Body.Bytes()}
}

// recorder records an answer, or that the connection was taken away.
type recorder struct {
	*httptest.ResponseRecorder
	hijacked bool
}

// Hijack implements http.Hijacker.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	here, there := net.Pipe()
	_ = there.Close() // what is written to a connection that is taken away is never read
	return here, nil, nil
}

// ask calls a method from outside the cluster, on a way of its own.
func (w *world) ask(method string, pairs ...string) {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req := httptest.NewRequestWithContext(w.over, http.MethodPost, "/bot"+token+"/"+method, nil)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a := w.serveHTTP(w.over, req, []byte(form.Encode())); a.err == nil && a.code != http.StatusOK {
		w.tell("%s is answered with %d %s", method, a.code, a.body)
	}
}

// records are the simulator's account of updates.
func (w *world) records() ([]simulator.Record, error) {
	rec := httptest.NewRecorder()
	w.sim.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/report/updates", nil))
	var all []simulator.Record
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil {
		return nil, fmt.Errorf("read the simulator's account: %w", err)
	}
	return all, nil
}

// said is the user's text in an answer: "name: text".
func said(text string) string {
	if _, rest, ok := strings.Cut(text, ": "); ok {
		return rest
	}
	return ""
}
