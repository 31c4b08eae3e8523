package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"habot/app/botapi"
	"habot/app/telegram"
	"habot/app/turns"
)

// Bounds of what is passed on.
const (
	// answerBound is how long Telegram has for an answer once it has all of a call.
	answerBound = time.Minute
	// aliveEvery is how often the progress of an upload shows that its copy lives.
	aliveEvery = time.Second
)

// Texts of answers to calls.
const (
	textUnsent   = "Bad Gateway: Telegram cannot be reached; nothing was sent"
	textUnknown  = "Bad Gateway: Telegram did not answer; the call may have been carried out"
	textAnswer   = "Bad Gateway: Telegram's answer is not one of the Bot API"
	textPage     = textAnswer + "; the call may have been carried out"
	textStandby  = "Conflict: this copy of the bot stands by, so habot does not send for it; the active copy is "
	textNoActive = "Conflict: this copy of the bot is not active, so habot does not send for it; no copy is active at the moment"
)

// refused takes note of a call that a copy may not make.
func (g *Gateway) refused(q request) {
	if omitted, ok := g.refusals.Take(time.Now()); ok {
		g.cfg.Logger.Info("a call of a copy that is not active is refused", "copy", q.client.Copy, "method", q.path.Method, "omitted", omitted)
	}
}

// kindOf is what a method's call is to turns.
func kindOf(method string) turns.Kind {
	switch botapi.ClassOf(method) {
	case botapi.Read, botapi.SetUp:
		return turns.KindFree
	default:
		return turns.KindWrite
	}
}

// call passes a call on, if its copy may make it. The error is ErrNotPrimary: nothing was sent.
func (s *session) call(w http.ResponseWriter, q request) error {
	if !s.begin() {
		return ErrNotPrimary
	}
	end, answered := sync.OnceFunc(s.calls.Done), sync.OnceFunc(s.leaving.Done)
	defer end()
	defer answered()
	v, err := s.ask(turns.Called{Client: q.client, Kind: kindOf(q.path.Method)})
	if err != nil {
		return err
	}
	if !v.Pass {
		s.g.metrics.calls.WithLabelValues(callRefused).Inc()
		s.g.refused(q)
		answered()
		end() // nothing leaves, and what is still to come of the body takes as long as its client wants
		q.drain()
		write(w, botapi.Failure(http.StatusConflict, standby(v.Active)))
		return nil
	}
	defer s.tell(turns.Alive{Client: q.client})
	began := s.g.now()
	c := &passing{s: s, q: q, wanted: botapi.Wanted(q.path.Method)}
	resp, err := c.run()
	answered()
	if resp != nil {
		defer func() { _ = resp.Body.Close() }() // it was read, or is of no use
	}
	result := callUnknown
	// Nothing was sent, and this is no primary any more: the next one takes it.
	over := errors.Is(err, telegram.ErrLeaseLost) || errors.Is(err, telegram.ErrNotSent) && s.ctx.Err() != nil
	switch {
	case over && q.rest == nil:
		return ErrNotPrimary
	case over:
		result = callUnsent
		write(w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
	case c.failed() != nil:
		result = callBad
		write(w, failureOf(c.failed()))
	case errors.Is(err, telegram.ErrNotSent):
		result = callUnsent
		write(w, botapi.Later(http.StatusBadGateway, textUnsent, 1))
	case err != nil && s.ctx.Err() != nil:
		write(w, botapi.Failure(http.StatusBadGateway, textOver))
	case err != nil:
		write(w, botapi.Failure(http.StatusBadGateway, textUnknown))
	case !isAnswer(resp):
		write(w, botapi.Failure(http.StatusBadGateway, textPage))
	default:
		result = callPassed
		if names := c.names(); !names.IsZero() && signs(resp.StatusCode) {
			s.tell(turns.Signed{Copy: q.client.Copy, Began: began, Chats: names.Chats, Query: names.Query})
		}
		s.g.answer(w, resp)
	}
	s.g.metrics.calls.WithLabelValues(result).Inc()
	return nil
}

// signs tells whether an answer of Telegram shows that a call was one: not a failure of its own, nor a refusal to be repeated.
func signs(status int) bool {
	return status < http.StatusInternalServerError && status != http.StatusTooManyRequests && status != http.StatusUnauthorized
}

func standby(active turns.CopyID) string {
	if active == "" {
		return textNoActive
	}
	return textStandby + string(active)
}

// passing is a call on its way to Telegram.
type passing struct {
	s      *session
	q      request
	wanted []string

	mu      sync.Mutex
	scanner *botapi.Scanner // nil if nothing is read of the body
	params  botapi.Params   // of a compressed body
	err     error
}

func (c *passing) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// run sends the call and returns Telegram's answer.
func (c *passing) run() (*http.Response, error) {
	r := c.q.http
	ctx, cancel := context.WithCancel(telegram.WithCopy(c.s.ctx, string(c.q.client.Copy)))
	p := telegram.Passed{
		Test: c.q.path.Test, Method: c.q.path.Method, Query: r.URL.RawQuery, ContentType: r.Header.Get("Content-Type"),
		ContentEncoding: r.Header.Get("Content-Encoding"), Size: c.q.size,
	}
	if c.q.rest == nil {
		c.read()
		if c.failed() != nil {
			cancel()
			return nil, c.failed()
		}
		p.Body = bytes.NewReader(c.q.start)
	} else {
		release := c.s.g.uploads.take(r.Context().Done(), c.s.over)
		if release == nil {
			cancel()
			return nil, telegram.ErrLeaseLost
		}
		defer release()
		if p.ContentEncoding == "" { // if nothing is wanted the bound holds all the same
			c.scanner = botapi.NewScanner(r.URL.RawQuery, p.ContentType, c.wanted...)
		}
		p.Body = &upload{c: c, r: io.MultiReader(bytes.NewReader(c.q.start), c.q.rest)}
	}
	// The answer has to come within answerBound after the last byte.
	late := time.AfterFunc(answerBound, cancel)
	if u, ok := p.Body.(*upload); ok {
		u.moved = func() { late.Reset(stallBound + answerBound) }
	}
	resp, err := c.s.g.cfg.Telegram.Pass(ctx, p)
	if err != nil {
		late.Stop()
		cancel()
		return nil, err //nolint:wrapcheck // the caller judges what it is
	}
	resp.Body = &answered{ReadCloser: resp.Body, end: func() {
		late.Stop()
		cancel()
	}}
	return resp, nil
}

// answered is an answer's body, after which a request is over.
type answered struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (a *answered) Close() error {
	defer a.end()
	return a.ReadCloser.Close() //nolint:wrapcheck // it is of no use
}

// read reads the parameters of a body that is in memory. One that is not compressed is within their bound.
func (c *passing) read() {
	r := c.q.http
	kind, encoding := r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding")
	if encoding == "" && len(c.wanted) == 0 {
		return
	}
	if encoding != "" {
		p, err := botapi.ReadParams(r.URL.RawQuery, kind, encoding, bytes.NewReader(c.q.start), c.wanted...)
		switch {
		case err == nil:
			c.params = p
			return
		case errors.Is(err, botapi.ErrTooLarge) && !errors.Is(err, botapi.ErrTooLong):
			c.err = err
			return
		}
		kind = "" // Telegram judges it
	}
	c.scanner = botapi.NewScanner(r.URL.RawQuery, kind, c.wanted...)
	_, c.err = c.scanner.Write(c.q.start)
}

// names are what the call names, once its body has ended.
func (c *passing) names() botapi.Names {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.params
	if c.scanner != nil {
		p, _ = c.scanner.Params() // without any, no chat is named
	}
	return botapi.NamesIn(c.q.path.Method, p)
}

// upload is a body that streams by.
type upload struct {
	c     *passing
	r     io.Reader
	moved func()
	alive time.Time
}

var errBody = errors.New("the client's body ended early")

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p[:min(len(p), pieceSize)])
	c := u.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		u.moved()
		if now := time.Now(); now.Sub(u.alive) >= aliveEvery {
			u.alive = now
			c.s.tell(turns.Alive{Client: c.q.client})
		}
		if c.scanner != nil {
			if _, bad := c.scanner.Write(p[:n]); bad != nil {
				c.err = bad
				return 0, bad //nolint:wrapcheck // botapi's, as it is
			}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = fmt.Errorf("%w: %w", errBody, err)
		return 0, c.err
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// isAnswer tells whether an answer is one of the Bot API, and no page of a proxy, which breaks frameworks.
func isAnswer(resp *http.Response) bool {
	return strings.Contains(resp.Header.Get("Content-Type"), "json")
}

// answer hands Telegram's answer on.
func (g *Gateway) answer(w http.ResponseWriter, resp *http.Response) {
	h := w.Header()
	h.Set("Content-Type", botapi.ContentType)
	if after := resp.Header.Get("Retry-After"); after != "" {
		h.Set("Retry-After", after)
	}
	if g.cfg.Token == g.cfg.BotToken {
		stream(w, resp, resp.Body, false)
		return
	}
	// A local Bot API server has the token in paths of files.
	stream(w, resp, newReplacer(resp.Body, g.cfg.BotToken, g.cfg.Token), true)
}
