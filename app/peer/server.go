package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/listener"
	"habot/app/logging"
)

// Replica is what the server asks of this replica. Its methods are called concurrently.
type Replica interface {
	Status(ctx context.Context) (election.Status, error)
	Claim(ctx context.Context, req election.ClaimRequest) (election.ClaimAnswer, error)
	End(ctx context.Context, req election.EndRequest) error
	Leave(ctx context.Context, req election.LeaveRequest) (election.LeaveAnswer, error)
	History(ctx context.Context) (election.History, error)
	Progress(ctx context.Context, p election.Progress) (election.ProgressAnswer, error)
	// SwitchoverHere hands over, if this replica is primary: election.ErrNotPrimary,
	// election.ErrNoSuccessor otherwise.
	SwitchoverHere(ctx context.Context, successor string) error
}

// ServerConfig is what a server is made of.
type ServerConfig struct {
	Addr       string
	Identity   *Identity
	Replica    Replica
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Served, if not nil, is called after each request that was answered; concurrently.
	Served func()
	// Gateway, if not nil, takes what other replicas' gateways pass on.
	Gateway Gateway
}

// Bounds of the connections open at once: 50 replicas, as many each as a client opens; two or three of
// them may share an address.
const (
	maxConnections = 512
	maxPerAddress  = 32
)

// What may be open beside these for passing: as much as two other replicas open, on one address too.
const passConnections = 2 * (MaxPassing + maxMessaging)

// Server answers other replicas.
type Server struct {
	cfg      ServerConfig
	http     *http.Server
	listener net.Listener
	refusals *prometheus.CounterVec
	speaks   versions
	passing  *passServer // nil without a gateway
}

// NewServer returns a server that does not listen yet.
func NewServer(cfg ServerConfig) *Server {
	s := &Server{cfg: cfg, speaks: ownVersions(), refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "habot_peer_refusals_total", Help: "Requests at the replicas' port that were refused, by reason.",
	}, []string{"reason"})}
	for _, r := range []string{reasonTLS, reasonProtocol, reasonRequest} {
		s.refusals.WithLabelValues(r)
	}
	cfg.Registerer.MustRegister(s.refusals)
	s.http = &http.Server{
		Handler:           s.routes(),
		TLSConfig:         cfg.Identity.config(),
		ReadHeaderTimeout: 2 * time.Second, // and of a handshake
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		// HTTP/2 would put all requests behind one lost packet.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     slog.NewLogLogger(&refusedHandshakes{s: s, lines: logging.NewQuotas(1, time.Minute)}, slog.LevelDebug),
	}
	if cfg.Gateway != nil {
		s.passing = newPassServer(s)
		s.http.TLSConfig.NextProtos = []string{passProtocol}
		s.http.TLSNextProto[passProtocol] = s.passing.take
	}
	return s
}

// The reasons of refusals.
const (
	reasonTLS      = "tls"
	reasonProtocol = "protocol"
	reasonRequest  = "bad_request"
)

// Listen opens the port.
func (s *Server) Listen() error {
	l, err := listener.Listen(s.cfg.Addr, s.bounds())
	if err != nil {
		return fmt.Errorf("listen for other replicas: %w", err)
	}
	s.listener = l
	return nil
}

func (s *Server) bounds() listener.Bounds {
	b := listener.Bounds{Total: maxConnections, PerAddress: maxPerAddress}
	if s.passing != nil {
		b.Total += passConnections
		b.PerAddress += passConnections
	}
	return b
}

// Addr is where the server listens, after Listen.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until ctx ends, and returns nil then; Listen MUST have succeeded before.
func (s *Server) Serve(ctx context.Context) error {
	if s.passing != nil {
		ctx, stop := context.WithCancel(ctx)
		var passing sync.WaitGroup
		passing.Go(func() { s.passing.run(ctx) })
		defer passing.Wait()
		defer stop()
	}
	err := listener.Serve(ctx, s.http, func() error { return s.http.ServeTLS(s.listener, "", "") })
	if err != nil {
		return fmt.Errorf("serve other replicas: %w", err)
	}
	return nil
}

// Answers returns nil if the server's handler has answered a question for the status. It uses no connection.
func (s *Server) Answers(ctx context.Context) error {
	err := listener.Ask(ctx, s.http.Handler, http.MethodGet, pathPrimary, http.Header{protocolHeader: {strconv.Itoa(s.speaks.newest)}})
	if err != nil {
		return fmt.Errorf("ask the own server for the status: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, p any) {
		s.cfg.Logger.Error("a request from a replica panicked", "path", c.FullPath(), "panic", p)
		c.AbortWithStatus(http.StatusInternalServerError)
	}), s.speaksProtocol)
	if s.cfg.Served != nil {
		r.Use(func(c *gin.Context) {
			c.Next()
			if c.Writer.Status() < http.StatusBadRequest {
				s.cfg.Served()
			}
		})
	}
	r.GET(pathPrimary, func(c *gin.Context) {
		st, err := s.cfg.Replica.Status(c.Request.Context())
		s.reply(c, http.StatusOK, st, err)
	})
	r.POST(pathClaims, handle(s, checkClaimRequest, func(ctx context.Context, req election.ClaimRequest) (any, error) {
		return s.cfg.Replica.Claim(ctx, req)
	}))
	r.DELETE(pathClaims, handle(s, checkEndRequest, func(ctx context.Context, req election.EndRequest) (any, error) {
		return nil, s.cfg.Replica.End(ctx, req)
	}))
	r.POST(pathLeave, handle(s, checkLeaveRequest, func(ctx context.Context, req election.LeaveRequest) (any, error) {
		return s.cfg.Replica.Leave(ctx, req)
	}))
	r.GET(pathHistory, func(c *gin.Context) {
		h, err := s.cfg.Replica.History(c.Request.Context())
		s.reply(c, http.StatusOK, h, err)
	})
	r.POST(pathProgress, handle(s, checkProgress, func(ctx context.Context, p election.Progress) (any, error) {
		return s.cfg.Replica.Progress(ctx, p)
	}))
	r.POST(pathSwitchover, handle(s, checkSwitchover, func(ctx context.Context, to switchover) (any, error) {
		return nil, s.cfg.Replica.SwitchoverHere(ctx, to.Successor)
	}))
	r.NoRoute(func(c *gin.Context) { s.refuse(c, http.StatusNotFound, reasonRequest, errors.New("no such path")) })
	r.NoMethod(func(c *gin.Context) {
		s.refuse(c, http.StatusMethodNotAllowed, reasonRequest, errors.New("no such method"))
	})
	return r
}

// speaksProtocol refuses another version of the protocol before anything else is looked at.
func (s *Server) speaksProtocol(c *gin.Context) {
	version := versionOf(c.Request.Header)
	c.Header(versionsHeader, s.speaks.String())
	if !s.speaks.has(version) {
		c.Header(protocolHeader, strconv.Itoa(s.speaks.newest))
		s.refuse(c, http.StatusConflict, reasonProtocol, fmt.Errorf("%w: %.16q, and this one %s", ErrProtocol, c.GetHeader(protocolHeader), s.speaks))
		return
	}
	c.Header(protocolHeader, strconv.Itoa(version))
}

// handle decodes a body, strictly, and answers what f returns.
func handle[M any](s *Server, check func(M) error, f func(context.Context, M) (any, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !isJSON(c.ContentType()) {
			s.refuse(c, http.StatusUnsupportedMediaType, reasonRequest, fmt.Errorf("%w: not application/json", ErrMessage))
			return
		}
		m, err := decode(c.Request.Body, check)
		if err != nil {
			s.refuse(c, http.StatusBadRequest, reasonRequest, err)
			return
		}
		answer, err := f(c.Request.Context(), m)
		s.reply(c, http.StatusOK, answer, err)
	}
}

func (s *Server) reply(c *gin.Context, code int, answer any, err error) {
	for _, r := range refusals() {
		if errors.Is(err, r.err) {
			c.Header(refusalHeader, r.code)
			c.AbortWithStatusJSON(http.StatusConflict, complaint{r.text})
			return
		}
	}
	switch {
	case err != nil:
		c.AbortWithStatusJSON(http.StatusServiceUnavailable, complaint{"the replica could not answer"})
	case answer == nil:
		c.Status(http.StatusNoContent)
	default:
		raw, err := json.Marshal(written(answer, versionOf(c.Request.Header)))
		if err != nil {
			c.AbortWithStatus(http.StatusInternalServerError)
			return
		}
		c.Data(code, "application/json", raw)
	}
}

func (s *Server) refuse(c *gin.Context, code int, reason string, err error) {
	s.refusals.WithLabelValues(reason).Inc()
	s.cfg.Logger.Debug("refused a request", "remote", c.Request.RemoteAddr, "reason", reason, "error", err)
	c.Header("Connection", "close")
	c.AbortWithStatusJSON(code, complaint{err.Error()})
}

// refusedHandshakes takes what net/http has to say of connections, which is about clients that do not belong, counts
// it, and tells it once a minute per address at debug.
type refusedHandshakes struct {
	slog.Handler
	s     *Server
	lines *logging.Quotas
}

// maxRemembered bounds the addresses remembered.
const maxRemembered = 256

// Enabled implements slog.Handler.
func (*refusedHandshakes) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h *refusedHandshakes) Handle(_ context.Context, r slog.Record) error {
	h.s.refusals.WithLabelValues(reasonTLS).Inc()
	who := "unknown"
	if _, rest, ok := strings.Cut(r.Message, "TLS handshake error from "); ok {
		if host, _, err := net.SplitHostPort(strings.SplitN(rest, ": ", 2)[0]); err == nil {
			who = host
		}
	}
	if _, ok := h.lines.Take(time.Now(), who); !ok {
		return nil
	}
	h.s.cfg.Logger.Debug("refused a connection", "remote", who, "reason", r.Message)
	return nil
}
