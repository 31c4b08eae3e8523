package gateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/botapi"
	"habot/app/logging"
	"habot/app/turns"
)

// Bounds of what clients may have open and send.
const (
	// maxConnections leaves room for 500 copies, each with a connection for polls and one for calls.
	maxConnections = 1200
	maxPerAddress  = 1100
	maxHeaders     = 256 << 10
	maxStreams     = 100 // of one HTTP/2 connection
	// headerBound is for the headers of a request, stallBound for the next bytes of its body, or of an answer.
	headerBound = 10 * time.Second
	stallBound  = 30 * time.Second
	// idleBound is that of the real server: no client keeps idle connections for longer and expects them to be there.
	idleBound = 500 * time.Second
	// maxBuffered is how large a body may be to be read before it is passed on.
	maxBuffered = 64 << 10
	// A wrong token is answered after refusalWait, so that a client that repeats it costs little. maxRefusals such requests wait at a
	// time, and more are answered at once: that bounds what they cost, not how many tokens can be tried.
	refusalWait = time.Second
	maxRefusals = 32
	// lineEvery is between two log lines of one kind.
	lineEvery = 10 * time.Second
)

// Texts of answers.
const (
	textMethod     = "Not Implemented: habot serves GET and POST"
	textNotFound   = "Not Found: no method or file of the Bot API; habot serves /bot<token>/<method> and /file/bot<token>/<path>"
	textToken      = "Unauthorized: habot accepts the token that its GATEWAY_TOKEN names, or BOT_TOKEN if that is not set"
	textSlower     = "Too Many Requests: too many requests with a wrong token"
	textTooLarge   = "Request Entity Too Large: the parameters exceed 1 MiB"
	textEncoding   = "Unsupported Media Type: habot reads bodies that are gzip, deflate or not compressed"
	textBroken     = "Bad Request: the body of the request ended early"
	textSetWebhook = "Bad Request: habot polls Telegram for this bot; for a bot that takes webhooks set BACKEND to its URL"
	textLogOut     = "Bad Request: habot does not log the bot out, nor close it: that would end its connection to Telegram for minutes"
	textNoMe       = "Bad Gateway: habot has not been able to ask Telegram for the bot yet"
	textNoPrimary  = "Bad Gateway: no replica of habot is primary at the moment; nothing was sent"
	textOver       = "Bad Gateway: the primary has changed while the request was on its way; it may have been carried out"
	textInternal   = "Internal Server Error: habot failed to handle the request; it may have been carried out"
	textTestPoll   = "Bad Request: habot polls Telegram's own servers, not its test servers"
)

// front reads requests, checks who they are from, and answers what is answered here.
type front struct {
	g     *Gateway
	token [sha256.Size]byte
	// passed stands in the path for the token that was checked here. A replica that is primary, or that claims to be, learns the
	// token of no copy by it, and a client without the token cannot make it.
	passed   string
	refusals chan struct{}
	lines    *logging.Quota
	drops    *logging.Quota
}

func newFront(g *Gateway) *front {
	passed := hmac.New(sha256.New, []byte(g.cfg.Token))
	passed.Write([]byte("habot: a request of a copy that is passed on"))
	return &front{
		g: g, token: sha256.Sum256([]byte(g.cfg.Token)), passed: hex.EncodeToString(passed.Sum(nil)),
		refusals: make(chan struct{}, maxRefusals),
		lines:    logging.NewQuota(1, lineEvery), drops: logging.NewQuota(1, lineEvery),
	}
}

func (g *Gateway) newServer() *http.Server {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash = false // a redirect names the path, with the token in it
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, p any) {
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // net/http's way to break a connection
		}
		g.cfg.Logger.Error("a request of a copy panicked", "panic", p) // its path has a token in it
		if c.Writer.Written() {
			panic(http.ErrAbortHandler) // what is cut short must not look whole
		}
		write(c.Writer, botapi.Failure(http.StatusInternalServerError, textInternal))
	}))
	serve := func(c *gin.Context) {
		if g.conns.ending.Load() {
			c.Header("Connection", "close")
		}
		g.front.serve(c.Writer, c.Request)
		if g.cfg.Served != nil {
			g.cfg.Served()
		}
	}
	r.Any("/*path", serve)
	r.NoRoute(serve) // other HTTP methods
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: r, DisableGeneralOptionsHandler: true, ReadHeaderTimeout: headerBound, IdleTimeout: idleBound, MaxHeaderBytes: maxHeaders, ConnContext: g.conns.ConnContext,
		Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(g.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// request is one request of a client that has shown the token.
type request struct {
	path   botapi.Path
	client turns.Client
	// Its body, or what has been read of it: rest is nil if that is all.
	start []byte
	rest  io.Reader
	size  int64 // -1 if it is not known

	http *http.Request
}

// serve answers one request that came to this replica's port.
func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	q := request{http: r, size: r.ContentLength}
	origin := Origin{Replica: f.g.cfg.Replica, Address: r.RemoteAddr}
	conn := connectionOf(r)
	if conn != nil {
		origin = conn.began()
		defer conn.done()
	}
	body := &moving{r: r.Body, control: http.NewResponseController(w)}
	defer body.stop()
	body.bound() // of what is answered before it is read net/http reads the body
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		write(w, botapi.Failure(http.StatusNotImplemented, textMethod))
		return
	}
	var err error
	if q.path, err = botapi.ParsePath(r.URL.Path); err != nil {
		write(w, botapi.Failure(http.StatusNotFound, textNotFound))
		return
	}
	if !f.accepts(q.path.Token) {
		f.refuse(w, r, origin)
		return
	}
	r.URL.Path, r.URL.RawPath = strings.ReplaceAll(r.URL.Path, q.path.Token, f.passed), ""
	q.path.Token = ""
	q.client = origin.client(q.path.Copy)
	if conn != nil {
		conn.uses(q.client, r.Close)
	}
	if q.path.File != "" {
		_, err := io.CopyN(io.Discard, body, botapi.MaxParameters+1)
		if err == nil {
			err = botapi.ErrTooLarge
		}
		if !errors.Is(err, io.EOF) {
			write(w, failureOf(err))
			return
		}
		f.g.file(w, q)
		return
	}
	if err := q.read(body); err != nil {
		write(w, failureOf(err))
		return
	}
	ask := Ask{Origin: origin, Name: q.path.Copy, Body: q.start}
	switch botapi.ClassOf(q.path.Method) {
	case botapi.Local:
		f.local(w, q)
		return
	case botapi.Poll:
		if q.path.Test {
			write(w, botapi.Failure(http.StatusBadRequest, textTestPoll))
			return
		}
		p, err := q.params(botapi.Wanted(q.path.Method)...)
		if err != nil {
			write(w, failureOf(err))
			return
		}
		f.g.prober.polled(origin.Address)
		u := botapi.UpdatesIn(p)
		if len(q.start)+len(r.URL.RawQuery) > maxBuffered {
			r.URL.RawQuery, q.start = pollQuery(u), nil // a poll waits for long: what is kept of it is small
			r.Header.Del("Content-Encoding")
		}
		ask.Poll, ask.Again, ask.Hold, ask.Body = true, true, u.Timeout, q.start
		if conn != nil {
			conn.polling(1)
			over := sync.OnceFunc(func() { conn.polling(-1) })
			defer over()
			w = &announced{w, over}
		}
	case botapi.Read:
		ask.Again = true
	case botapi.Write, botapi.SetUp, botapi.Progress:
	}
	if q.rest != nil {
		ask.Body = nil
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(q.start), q.rest), r.Body}
	} else if ask.Body == nil {
		ask.Body = []byte{}
	}
	f.g.passer.Serve(w, r, ask)
}

// pollQuery is a query with all that a poll asks for. It names the method, too.
func pollQuery(u botapi.Updates) string {
	q := url.Values{
		"method": {"getUpdates"}, "offset": {strconv.FormatInt(u.Offset, 10)}, "limit": {strconv.Itoa(u.Limit)},
		"timeout": {strconv.Itoa(int(u.Timeout / time.Second))},
	}
	if u.Allowed != "" {
		q.Set("allowed_updates", u.Allowed)
	}
	return q.Encode()
}

func (f *front) accepts(token string) bool {
	given := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(given[:], f.token[:]) == 1
}

// refuse answers who shows a wrong token, after a while unless too many wait for that.
func (f *front) refuse(w http.ResponseWriter, r *http.Request, origin Origin) {
	if omitted, ok := f.lines.Take(time.Now()); ok {
		f.g.cfg.Logger.Warn("a request with a wrong token is refused", "remote", origin.Address, "omitted", omitted)
	}
	f.g.metrics.tokens.Inc()
	w.Header().Set("Connection", "close")
	select {
	case f.refusals <- struct{}{}:
		defer func() { <-f.refusals }()
	default:
		write(w, botapi.Later(http.StatusTooManyRequests, textSlower, 1))
		return
	}
	select {
	case <-time.After(refusalWait):
		write(w, botapi.Failure(http.StatusUnauthorized, textToken))
	case <-r.Context().Done():
	}
}

// errNoMethod says that a request names no method.
var errNoMethod = errors.New("no method is named")

// read reads the body, or the beginning of a large one, and finds out what is called.
func (q *request) read(body io.Reader) error {
	start, err := io.ReadAll(io.LimitReader(body, maxBuffered+1))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if q.start = start; len(start) > maxBuffered {
		q.rest = body
	} else {
		q.size = int64(len(start))
	}
	if q.path.Method != "" {
		return nil
	}
	p, err := q.params("method")
	if err != nil {
		return err
	}
	var ok bool
	if q.path.Method, ok = botapi.MethodName(p["method"]); !ok {
		return errNoMethod
	}
	return nil
}

// params reads parameters of a call that is not passed on, to the end of its body; what was read stays the start of the body.
func (q *request) params(wanted ...string) (botapi.Params, error) {
	body := io.Reader(bytes.NewReader(q.start))
	if q.rest != nil {
		var read bytes.Buffer
		read.Write(q.start)
		rest := io.TeeReader(q.rest, &read)
		defer func() { q.start = read.Bytes() }()
		body = io.MultiReader(body, rest)
	}
	p, err := botapi.ReadParams(q.http.URL.RawQuery, q.http.Header.Get("Content-Type"), q.http.Header.Get("Content-Encoding"), body, wanted...)
	if err == nil && q.rest != nil {
		q.size, q.rest = int64(len(q.start)), nil // it was read to its end; q.start is set when this returns
	}
	return p, err //nolint:wrapcheck // botapi's, as it is
}

// failureOf is the answer to a request whose parameters cannot be read.
func failureOf(err error) botapi.Answer {
	switch {
	case errors.Is(err, errNoMethod):
		return botapi.Failure(http.StatusNotFound, textNotFound)
	case errors.Is(err, botapi.ErrTooLarge):
		return botapi.Failure(http.StatusRequestEntityTooLarge, textTooLarge)
	case errors.Is(err, botapi.ErrEncoding):
		return botapi.Failure(http.StatusUnsupportedMediaType, textEncoding)
	}
	return botapi.Failure(http.StatusBadRequest, textBroken)
}

// local answers what is never passed on.
func (f *front) local(w http.ResponseWriter, q request) {
	kind := turns.KindFree
	if botapi.StartsUp(q.path.Method) {
		kind = turns.KindStartUp
	}
	f.g.passer.Saw(turns.Called{Client: q.client, Kind: kind})
	switch q.path.Method {
	case "getme":
		me := f.g.bot(q.http.Context())
		if me == nil {
			write(w, botapi.Later(http.StatusBadGateway, textNoMe, 1))
			return
		}
		write(w, botapi.Result(me))
	case "deletewebhook":
		if p, err := q.params(botapi.Wanted(q.path.Method)...); err == nil && p.Bool("drop_pending_updates") {
			if omitted, ok := f.drops.Take(time.Now()); ok {
				f.g.cfg.Logger.Warn("a copy asked to drop pending updates; nothing was dropped: a copy that starts must not drop what people wrote",
					"copy", q.client.Copy, "omitted", omitted)
			}
		}
		write(w, botapi.True("Webhook is already deleted"))
	case "getwebhookinfo":
		write(w, botapi.WebhookInfo(f.g.pending(q.http.Context())))
	case "setwebhook":
		p, err := q.params("url")
		if err == nil && p["url"] == "" {
			write(w, botapi.True("Webhook is already deleted"))
			return
		}
		write(w, botapi.Failure(http.StatusBadRequest, textSetWebhook))
	default:
		write(w, botapi.Failure(http.StatusBadRequest, textLogOut))
	}
}

// act answers a request as the primary; it is the Passer's Act.
func (g *Gateway) act(w http.ResponseWriter, r *http.Request) error {
	s := g.session()
	if s == nil {
		return ErrNotPrimary
	}
	if s.operate(w, r) {
		return nil
	}
	path, err := botapi.ParsePath(r.URL.Path)
	if err != nil || path.File != "" || !hmac.Equal([]byte(path.Token), []byte(g.front.passed)) {
		write(w, botapi.Failure(http.StatusNotFound, textNotFound))
		return nil //nolint:nilerr // it was answered
	}
	q := request{http: r, path: path, client: OriginOf(r.Context()).client(path.Copy), size: r.ContentLength}
	if err := q.read(r.Body); err != nil {
		write(w, failureOf(err))
		return nil
	}
	g.agents.saw(q.client.Copy, r.UserAgent())
	switch botapi.ClassOf(q.path.Method) {
	case botapi.Poll:
		return s.getUpdates(w, q)
	case botapi.Local:
		write(w, botapi.Failure(http.StatusNotFound, textNotFound)) // the replica that it came through answers it
		return nil
	case botapi.Write, botapi.Progress, botapi.Read, botapi.SetUp:
	}
	err = s.call(w, q)
	if errors.Is(err, ErrNotPrimary) && q.rest != nil { // the beginning of its body has been read
		write(w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
		return nil
	}
	return err
}

// getUpdates answers a poll.
func (s *session) getUpdates(w http.ResponseWriter, q request) error {
	p, err := q.params(botapi.Wanted(q.path.Method)...)
	if err != nil {
		write(w, failureOf(err))
		return nil
	}
	u := botapi.UpdatesIn(p)
	if waited := OriginOf(q.http.Context()).Waited; u.Timeout > 0 { // one that does not wait would be another kind of poll
		u.Timeout = max(u.Timeout-waited, time.Second)
	}
	updates, err := s.poll(q.http.Context(), turns.Polled{
		Client: q.client, Offset: u.Offset, Limit: u.Limit, Timeout: u.Timeout, Allowed: u.Allowed,
	})
	if errors.Is(err, ErrNotPrimary) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // the client does not wait any longer
	}
	raws := make([][]byte, 0, len(updates))
	for _, u := range updates {
		raws = append(raws, u.Raw)
	}
	write(w, botapi.List(raws))
	return nil
}

// write sends an answer. A client that does not read it delays no other, and is cut off after stallBound.
func write(w http.ResponseWriter, a botapi.Answer) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(stallBound)) // what cannot be bounded is not
	h := w.Header()
	h.Set("Content-Type", botapi.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	if a.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.RetryAfter))
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client may be gone
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
}

// moving is a request's body of which the next bytes have to come within stallBound. Its end ends the bound: from then on net/http
// looks whether the client is there, for as long as the answer takes.
type moving struct {
	r       io.Reader
	control *http.ResponseController

	mu               sync.Mutex
	reading, stopped bool
	ended            bool
}

// bound bounds the wait for the next bytes.
func (m *moving) bound() {
	_ = m.control.SetReadDeadline(time.Now().Add(stallBound)) // what cannot be bounded is not
}

// Read implements io.Reader.
func (m *moving) Read(p []byte) (int, error) {
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		return 0, errBody
	}
	m.reading = true
	m.bound()
	m.mu.Unlock()
	n, err := m.r.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading = false
	if errors.Is(err, io.EOF) && !m.ended {
		m.ended = true
		_ = m.control.SetReadDeadline(time.Time{})
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// stop ends the reading: who still reads, as a call was given up, does not any more. The bound stays for net/http, which reads what
// is left of the body.
func (m *moving) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.reading {
		_ = m.control.SetReadDeadline(time.Now())
	}
}

// announced calls begins as an answer begins: a client may end its connection as soon as it has it, before the handler has returned.
type announced struct {
	http.ResponseWriter
	begins func()
}

// WriteHeader implements http.ResponseWriter.
func (a *announced) WriteHeader(status int) {
	a.begins()
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *announced) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// pending is how many updates wait to be confirmed by a copy; 0 if the primary could not be asked.
func (g *Gateway) pending(ctx context.Context) int {
	if s := g.Snapshot(ctx); s != nil {
		return s.Pending
	}
	return 0
}
