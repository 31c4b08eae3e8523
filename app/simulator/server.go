package simulator

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"habot/app/simulator/playground"
)

// answer is what the Bot API answers.
type answer struct {
	OK          bool        `json:"ok"`
	Result      any         `json:"result,omitempty"`
	Description string      `json:"description,omitempty"`
	ErrorCode   int         `json:"error_code,omitempty"`
	Parameters  *parameters `json:"parameters,omitempty"`
}

type parameters struct {
	RetryAfter      int   `json:"retry_after,omitempty"`
	MigrateToChatID int64 `json:"migrate_to_chat_id,omitempty"`
}

func fail(code int, description string) answer {
	return answer{ErrorCode: code, Description: description}
}

func badRequest(what string) answer { return fail(http.StatusBadRequest, "Bad Request: "+what) }

func (s *Simulator) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, p any) {
		s.cfg.Logger.Error("a request panicked", "path", c.FullPath(), "panic", p)
		s.reply(c, fail(http.StatusInternalServerError, "Internal Server Error"))
	}))
	for _, verb := range []string{http.MethodGet, http.MethodPost} {
		r.Handle(verb, "/bot:token/:method", s.serveMethod)
	}
	r.GET("/file/bot:token/*path", s.serveFile)
	s.pageRoutes(r)
	r.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	r.GET("/metrics", gin.WrapH(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
	r.GET("/report", func(c *gin.Context) { c.IndentedJSON(http.StatusOK, s.Report()) })
	r.GET("/report/updates", s.serveUpdates)
	r.GET("/report/polls", s.servePolls)
	r.GET("/report/strays", s.serveStrays)
	r.POST("/control", s.serveControl)
	r.NoRoute(func(c *gin.Context) { s.reply(c, fail(http.StatusNotFound, "Not Found")) })
	return r
}

func (s *Simulator) reply(c *gin.Context, a answer) {
	code := http.StatusOK
	if !a.OK {
		code = a.ErrorCode
		if a.Parameters != nil && a.Parameters.RetryAfter > 0 {
			c.Header("Retry-After", strconv.Itoa(a.Parameters.RetryAfter))
		}
	}
	c.JSON(code, a)
}

// serveMethod is every method of the Bot API.
func (s *Simulator) serveMethod(c *gin.Context) {
	c.Header(headerSimulator, "true")
	method := strings.ToLower(c.Param("method"))
	p, files, err := readParams(c.Request)
	if err != nil {
		s.reply(c, badRequest("can't parse the request's body"))
		return
	}
	left, ok := s.inject(c, method, p["chat_id"])
	if !ok {
		return
	}
	token := c.Param("token")
	switch {
	case strings.HasPrefix(token, "0") || len(token) > 80 || !strings.Contains(token, ":"):
		s.reply(c, fail(http.StatusUnauthorized, "Unauthorized: invalid token specified"))
	case token != s.cfg.Token && !s.cfg.AnyToken:
		s.reply(c, fail(http.StatusUnauthorized, "Unauthorized"))
	case method == "getupdates":
		s.serveUpdatesPoll(c, p, left)
	default:
		m, known := s.methods()[method]
		if !known {
			s.reply(c, fail(http.StatusNotFound, "Not Found: method not found"))
			return
		}
		if a := m(caller(c.Request), p, files); s.spoil(c, left) {
			s.reply(c, a)
		}
	}
}

// serveUpdatesPoll is getUpdates.
func (s *Simulator) serveUpdatesPoll(c *gin.Context, p params, left fault) {
	gone := c.Request.Context()
	w := s.beginPoll(caller(c.Request).Replica, pollRequest{
		offset: p.number("offset", 0), limit: p.number("limit", maxLimit), timeout: p.number("timeout", 0), allowed: p.list("allowed_updates"),
	}, func() bool { return gone.Err() != nil })
	timeout := time.NewTimer(time.Duration(w.request.timeout) * time.Second)
	defer timeout.Stop()
	var a pollAnswer
	select {
	case a = <-w.answer:
	case <-timeout.C:
		a = s.stopWaiting(w)
	case <-gone.Done():
		a = s.stopWaiting(w)
	}
	if a.delay > 0 && !pause(gone, a.delay) {
		a.updates = nil
	}
	code := http.StatusOK
	switch arrives := s.spoil(c, left); {
	case !arrives, gone.Err() != nil:
		code = 0
	case a.conflict != "":
		code = http.StatusConflict
	}
	// The account first: once the answer is out, the next poll may be here.
	s.endPoll(w, a, code)
	switch code {
	case http.StatusOK:
		updates := make([]json.RawMessage, 0, len(a.updates))
		for _, u := range a.updates {
			updates = append(updates, u.body)
		}
		s.reply(c, answer{OK: true, Result: updates})
	case http.StatusConflict:
		s.reply(c, fail(http.StatusConflict, a.conflict))
	}
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var agentName = regexp.MustCompile(`^habot/\S+ \(([^()]+)\)`)

// Headers of habot's alone. With the one this server says that it is no Telegram; then replicas name in the other for which
// copy of a bot they ask.
const (
	headerSimulator = "Habot-Simulator"
	headerCopy      = "Habot-Copy"
)

// caller is who asks: the replica's name if its client says one, otherwise its address.
func caller(req *http.Request) playground.Who {
	if m := agentName.FindStringSubmatch(req.UserAgent()); m != nil {
		return playground.Who{Replica: m[1], Copy: req.Header.Get(headerCopy)}
	}
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		host = req.RemoteAddr
	}
	return playground.Who{Replica: host}
}
