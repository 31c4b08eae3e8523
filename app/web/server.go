package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/listener"
	"habot/app/page/live"
	"habot/app/relay"
)

// Replica is what is shown and moved. Its methods are called concurrently.
type Replica interface {
	View() election.View
	// Switchover moves the role to a standby, by name; to any if successor is empty. It returns once
	// the move is under way: election.ErrNotPrimary if no primary is known, election.ErrNoSuccessor
	// if no such standby can take over.
	Switchover(ctx context.Context, successor string) error
}

// Config is what a server is made of.
type Config struct {
	Addr    string
	Replica Replica
	// Failing names the components of this process that are not alive; none in health.
	Failing func() []string
	// Facts are what this replica knows now, the view and what is failing included.
	Facts func() diagnosis.Facts
	// LastPoll is when Telegram last answered a poll of this replica; zero if it has not.
	LastPoll func() time.Time
	// Backends is what is known of webhook backends, nil if none is configured; it may be nil itself.
	Backends func() *relay.Snapshot
	// Copies is what is known of copies of a polling bot, nil if none handle updates; Next moves the turn on to another. Both are
	// nil without a gateway.
	Copies func(ctx context.Context) *gateway.Snapshot
	Next   func(ctx context.Context) error
	// Demo: the bot talks to the simulator.
	Demo bool
	// AdminToken lets its bearer switch over, from anywhere; empty: no request may.
	AdminToken string
	// OperatorKey lets the command line beside the replica switch over; empty: it may not.
	OperatorKey string
	Gatherer    prometheus.Gatherer
	Logger      *slog.Logger
	// Served, if not nil, is called after each request that was answered; concurrently.
	Served func()
}

// Bounds.
const (
	maxConnections = 128
	maxPerAddress  = 16
	maxBody        = 4 << 10
	switchTimeout  = 10 * time.Second
)

// Server answers operators.
type Server struct {
	cfg      Config
	http     *http.Server
	listener net.Listener
	watching *live.Stream
}

// NewServer returns a server that does not listen yet.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.watching = live.NewStream(live.Config{Source: &frames{server: s}, Every: frameEvery, Most: maxWatchers, Behind: maxBehind})
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       15 * time.Second, // idle strangers must not hold all connections for long
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(s.watching.Close) // or a page that watches would have the stop wait for it
	return s
}

// Listen opens the port.
func (s *Server) Listen() error {
	l, err := listener.Listen(s.cfg.Addr, listener.Bounds{Total: maxConnections, PerAddress: maxPerAddress})
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	s.listener = l
	return nil
}

// Addr is where the server listens, after Listen.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until ctx ends, and returns nil then; Listen MUST have succeeded before.
func (s *Server) Serve(ctx context.Context) error {
	err := listener.Serve(ctx, s.http, func() error { return s.http.Serve(s.listener) })
	if err != nil {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, p any) {
		s.cfg.Logger.Error("a request panicked", "path", c.FullPath(), "panic", p)
		c.AbortWithStatus(http.StatusInternalServerError)
	}), headers)
	if s.cfg.Served != nil {
		r.Use(func(c *gin.Context) {
			c.Next()
			s.cfg.Served()
		})
	}
	r.GET("/", s.index)
	s.pageRoutes(r)
	r.GET("/livez", s.livez)
	r.GET("/readyz", s.readyz)
	r.GET("/primary", s.primary)
	r.GET("/cluster", func(c *gin.Context) { c.IndentedJSON(http.StatusOK, s.status()) })
	r.GET("/history", func(c *gin.Context) {
		c.IndentedJSON(http.StatusOK, append([]election.Change{}, s.cfg.Replica.View().History...))
	})
	r.GET("/metrics", gin.WrapH(promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second, DisableCompression: true})))
	r.POST("/switchover", s.switchover)
	r.POST("/backend/next", s.next)
	// Probes ask with HEAD too.
	for path, h := range map[string]gin.HandlerFunc{"/livez": s.livez, "/readyz": s.readyz, "/primary": s.primary} {
		r.HEAD(path, h)
	}
	r.NoRoute(func(c *gin.Context) { s.refuse(c, http.StatusNotFound, "no such path") })
	r.NoMethod(func(c *gin.Context) { s.refuse(c, http.StatusMethodNotAllowed, "no such method here") })
	return r
}

func headers(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
}

func (s *Server) refuse(c *gin.Context, code int, why string) {
	s.cfg.Logger.Debug("refused a request", "remote", c.Request.RemoteAddr, "code", code, "reason", why)
	c.AbortWithStatusJSON(code, gin.H{"error": why})
}

// index is for people who wonder what answers here: a page for browsers, text for others.
func (s *Server) index(c *gin.Context) {
	c.Header("Vary", "Accept")
	if live.WantsPage(c.Request) {
		live.ServeFile(c.Writer, "index.html", pageFiles())
		return
	}
	var b strings.Builder
	WriteStatus(&b, s.status())
	b.WriteString("\n/livez /readyz /primary /cluster /history /metrics, POST /switchover, POST /backend/next\n")
	c.String(http.StatusOK, "%s", b.String())
}

// livez never depends on role or quorum: an orchestrator that restarts, or hides, replicas without a
// quorum would keep one from forming.
func (s *Server) livez(c *gin.Context) {
	if failing := s.cfg.Failing(); len(failing) > 0 {
		c.String(http.StatusServiceUnavailable, "failing: %s\n", strings.Join(failing, ", "))
		return
	}
	c.String(http.StatusOK, "ok\n")
}

// readyz: standing by or serving properly.
func (s *Server) readyz(c *gin.Context) {
	if why := diagnosis.Unready(s.cfg.Facts()); why != "" {
		c.String(http.StatusServiceUnavailable, "not ready: %s\n", why)
		return
	}
	c.String(http.StatusOK, "ok\n")
}

// status is what there is to know.
func (s *Server) status() Status {
	f := s.cfg.Facts()
	st := Status{View: f.View, Verdict: diagnosis.Of(f), Demo: s.cfg.Demo, At: time.Now()}
	if at := s.cfg.LastPoll(); !at.IsZero() {
		st.LastPoll = max(1, time.Since(at))
	}
	if s.cfg.Backends != nil {
		st.Backends = s.cfg.Backends()
	}
	if s.cfg.Copies != nil {
		st.Copies = s.cfg.Copies(context.Background())
	}
	return st
}

// next moves the turn on to another copy of a polling bot.
func (s *Server) next(c *gin.Context) {
	if !s.mayAdminister(c.Request) {
		s.refuse(c, http.StatusForbidden, "to move the turn on needs ADMIN_TOKEN as bearer token, or the command line in the same container with the replica's own configuration")
		return
	}
	if s.cfg.Next == nil {
		s.refuse(c, http.StatusConflict, "there are no copies of a bot: BACKEND is not gateway")
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), switchTimeout)
	defer cancel()
	if err := s.cfg.Next(ctx); err != nil {
		s.refuse(c, http.StatusConflict, err.Error())
		return
	}
	s.cfg.Logger.Info("the turn was moved on to another copy", "by", "operator")
	c.JSON(http.StatusAccepted, gin.H{"ok": true})
}

// primary is 200 only on the primary, for load balancers.
func (s *Server) primary(c *gin.Context) {
	v := s.cfg.Replica.View()
	code := http.StatusServiceUnavailable
	if v.IsPrimary() {
		code = http.StatusOK
	}
	c.JSON(code, gin.H{"primary": v.IsPrimary(), "name": v.Self.PrimaryName, "timestamp_ns": v.Self.Primary.Timestamp, "self": v.Self.Name})
}

// switchover moves the role: {"to":"habot-bot-2"}, or ?to=, or to anyone.
func (s *Server) switchover(c *gin.Context) {
	if !s.mayAdminister(c.Request) {
		s.refuse(c, http.StatusForbidden, "a switchover needs ADMIN_TOKEN as bearer token, or the command line in the same container with the replica's own configuration")
		return
	}
	to, err := successor(c.Request)
	if err != nil {
		s.refuse(c, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), switchTimeout)
	defer cancel()
	switch err := s.cfg.Replica.Switchover(ctx, to); {
	case errors.Is(err, election.ErrNoSuccessor), errors.Is(err, election.ErrNotPrimary):
		s.refuse(c, http.StatusConflict, diagnosis.Refusal(s.cfg.Replica.View(), to, err))
	case err != nil:
		s.cfg.Logger.Error("a switchover failed", "to", to, "error", err)
		s.refuse(c, http.StatusServiceUnavailable, "the switchover could not be started; the log of this replica says why")
	default:
		c.JSON(http.StatusAccepted, gin.H{"ok": true})
	}
}

// successor reads the replica that an operator named.
func successor(req *http.Request) (string, error) {
	var body struct {
		To string `json:"to"`
	}
	raw, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil || len(raw) > maxBody {
		return "", errors.New("the body is too large or cannot be read")
	}
	if len(raw) > 0 {
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := errors.Join(d.Decode(&body), atEnd(d)); err != nil {
			return "", errors.New(`the body must be {"to":"NAME"}, or empty`)
		}
	}
	if body.To == "" {
		body.To = req.URL.Query().Get("to")
	}
	if len(body.To) > 256 {
		return "", errors.New("the name is too long")
	}
	return body.To, nil
}

// atEnd returns nil if nothing follows what was decoded.
func atEnd(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// mayAdminister: the token from anywhere, or the key from beside the replica. The loopback alone proves nothing: a
// reverse proxy on the same host comes from there as well.
func (s *Server) mayAdminister(req *http.Request) bool {
	given, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	return ok && (same(given, s.cfg.AdminToken) || same(given, s.cfg.OperatorKey) && isBeside(req))
}

// same compares secrets in a time that depends on neither, their lengths included. No secret is the same as none.
func same(given, secret string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && secret != ""
}

// isBeside tells whether a request comes from the replica's own host, from no proxy and no browser. In the demo the
// key is public. A browser is kept out by its Origin, and by a Host that is not this server's address (DNS
// rebinding).
func isBeside(req *http.Request) bool {
	for name := range req.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || slices.Contains([]string{"Origin", "Forwarded", "X-Real-Ip", "Via"}, name) {
			return false
		}
	}
	local, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	here, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return false
	}
	from, err := netip.ParseAddrPort(req.RemoteAddr)
	return err == nil && isOwn(from.Addr(), here.Addr()) && isOwnHost(req.Host, here.Addr())
}

// isOwn tells whether an address is of this host for sure: the loopback, or that at which the request arrived.
func isOwn(addr, here netip.Addr) bool {
	return addr.Unmap().IsLoopback() || addr.Unmap() == here.Unmap()
}

func isOwnHost(host string, here netip.Addr) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && isOwn(addr, here)
}
