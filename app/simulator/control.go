package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/simulator/playground"
)

// Kinds of faults.
const (
	FaultError500  = "error500" // {"ok":false,"error_code":500,...}
	FaultHTML502   = "html502"  // a proxy's page
	FaultHang      = "hang"     // no answer while the fault lasts
	FaultDrop      = "drop"     // the connection is closed without an answer
	FaultLimit     = "429"      // with retry_after
	FaultToken     = "401"
	FaultConflict  = "409"        // as if another client polled; only getUpdates suffers
	FaultLatency   = "latency"    // every request is carried out late
	FaultLoggedOut = "logged_out" // 400, as after logOut
	FaultNotFound  = "404"        // as for a token that is no token, or a wrong path
	// The request is carried out at once, and then:
	FaultTakenLate = "taken_late"    // its answer is late
	FaultTakenDrop = "taken_drop"    // the connection is closed without one
	FaultTaken502  = "taken_html502" // a proxy's page is in its place
	// FaultWebhook is no fault of a request: a webhook is set that is not the bot's, until the fault ends or a bot deletes it.
	FaultWebhook = "webhook"
)

// strangeHook is the webhook of FaultWebhook.
const strangeHook = "https://example.invalid/webhook"

func faultKinds() []string {
	return []string{
		FaultError500, FaultHTML502, FaultHang, FaultDrop, FaultLimit, FaultToken, FaultConflict, FaultLatency, FaultLoggedOut, FaultNotFound,
		FaultTakenLate, FaultTakenDrop, FaultTaken502, FaultWebhook,
	}
}

// Fault asks for trouble.
type Fault struct {
	Kind string `json:"kind"`
	// Methods are those that fail; none named means all.
	Methods []string `json:"methods,omitempty"`
	// Replica restricts the trouble to one poller, Chats to requests that name one of them.
	Replica string  `json:"replica,omitempty"`
	Chats   []int64 `json:"chats,omitempty"`
	// Seconds is how long it lasts; at most an hour.
	Seconds float64 `json:"seconds"`
	// RetryAfterSeconds goes with 429.
	RetryAfterSeconds int `json:"retry_after_seconds,omitempty"`
	// LatencySeconds goes with latency and taken_late.
	LatencySeconds float64 `json:"latency_seconds,omitempty"`
}

// Message is one that a user writes. A chat that is new is made: private above 0, a supergroup below -10^12, a group in
// between.
type Message struct {
	Chat int64  `json:"chat_id"`
	Text string `json:"text"`
	// Thread is a topic of a forum; elsewhere a thread of replies.
	Thread int `json:"message_thread_id,omitempty"`
}

// File is one that a user sends. Its answer is a message with the same bytes.
type File struct {
	Chat int64 `json:"chat_id"`
	// Kind is document or photo.
	Kind  string `json:"kind"`
	Bytes int64  `json:"bytes"` // 1 to 50 MiB
}

// Forum gives a chat topics, beside General.
type Forum struct {
	Chat   int64 `json:"chat_id"`
	Topics []int `json:"topics"`
}

// Migration makes a supergroup of a group.
type Migration struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Load is how many messages a second the users write for a while.
type Load struct {
	Rate    float64 `json:"rate"`    // 0..500
	Seconds float64 `json:"seconds"` // 0..600
}

// Control is what POST /control takes, as application/json and from no other page of a browser; every part is optional.
type Control struct {
	// Rate is how many messages a second the users write from now on.
	Rate *float64 `json:"rate,omitempty"`
	// Load has them write at another rate for a while; with a rate of 0 seconds a load ends.
	Load *Load `json:"load,omitempty"`
	// ClearFaults ends all trouble; Faults begins some.
	ClearFaults bool    `json:"clear_faults,omitempty"`
	Faults      []Fault `json:"faults,omitempty"`
	// Forums makes forums of supergroups (or gives private chats topics), Migrations supergroups of groups.
	Forums     []Forum     `json:"forums,omitempty"`
	Migrations []Migration `json:"migrations,omitempty"`
	// ChatLimit is how many messages the bot may send to a chat from now on.
	ChatLimit *ChatLimit `json:"chat_limit,omitempty"`
	// Messages are written now by the users of these chats.
	Messages []Message `json:"messages,omitempty"`
	// Files are written now by the users of these chats.
	Files []File `json:"files,omitempty"`
	// Updates are injected as they are.
	Updates []struct {
		Kind    string          `json:"kind"`
		Payload json.RawMessage `json:"payload"`
	} `json:"updates,omitempty"`
	// LowerIDs has update ids start again lower, once nothing waits.
	LowerIDs bool `json:"lower_ids,omitempty"`
}

const (
	maxFaultSeconds = 3600
	maxRate         = 10_000
	maxInjected     = 10_000
	// maxWritten bounds the files of one control: their bytes are made at once.
	maxWritten = 100
	// maxFaults bounds those that last at once; of more the oldest end.
	maxFaults = 1000
	// A load ends by itself, and what the page's buttons ask for is bounded.
	maxLoad        = 500
	maxLoadSeconds = 600
)

// check says what is wrong with a control.
func (c Control) check() error {
	if c.Rate != nil && (*c.Rate < 0 || *c.Rate > maxRate) {
		return fmt.Errorf("rate is not in 0..%d", maxRate)
	}
	if l := c.Load; l != nil && (l.Rate < 0 || l.Rate > maxLoad || l.Seconds < 0 || l.Seconds > maxLoadSeconds) {
		return fmt.Errorf("load is not 0..%d messages a second for 0..%d seconds", maxLoad, maxLoadSeconds)
	}
	if len(c.Faults) > maxFaults {
		return fmt.Errorf("more than %d faults", maxFaults)
	}
	if len(c.Messages) > maxInjected || len(c.Updates) > maxInjected {
		return fmt.Errorf("more than %d updates", maxInjected)
	}
	if len(c.Files) > maxWritten {
		return fmt.Errorf("more than %d files", maxWritten)
	}
	for _, f := range c.Files {
		if f.Kind != fileDocument && f.Kind != filePhoto || f.Bytes < 1 || f.Bytes > maxUpload {
			return fmt.Errorf("a file is not a %s or %s of 1..%d bytes", fileDocument, filePhoto, maxUpload)
		}
	}
	for _, f := range c.Faults {
		if !slices.Contains(faultKinds(), f.Kind) {
			return fmt.Errorf("fault %q is none of %s", f.Kind, strings.Join(faultKinds(), ", "))
		}
		if f.Seconds <= 0 || f.Seconds > maxFaultSeconds {
			return fmt.Errorf("seconds of a fault is not in 0..%d", maxFaultSeconds)
		}
		if f.LatencySeconds < 0 || f.LatencySeconds > maxFaultSeconds || f.RetryAfterSeconds < 0 || f.RetryAfterSeconds > maxFaultSeconds {
			return fmt.Errorf("a fault's latency_seconds or retry_after_seconds is not in 0..%d", maxFaultSeconds)
		}
	}
	if l := c.ChatLimit; l != nil && (l.Messages < 0 || l.Messages > maxRate || l.Messages > 0 && (l.Seconds < 1 || l.Seconds > maxFaultSeconds)) {
		return fmt.Errorf("chat_limit is not 0..%d messages in 1..%d seconds", maxRate, maxFaultSeconds)
	}
	for _, f := range c.Forums {
		if len(f.Topics) > maxRate || slices.ContainsFunc(f.Topics, func(topic int) bool { return topic <= general }) || kindOf(f.Chat) == chatGroup {
			return fmt.Errorf("a forum is no group, and its topics are numbers above %d, at most %d", general, maxRate)
		}
	}
	for _, m := range c.Migrations {
		if kindOf(m.From) != chatGroup || kindOf(m.To) != chatSupergroup {
			return errors.New("a migration is not from a group to a supergroup")
		}
	}
	for _, u := range c.Updates {
		if !slices.Contains(allowedKinds(), u.Kind) {
			return fmt.Errorf("update kind %q is none of Telegram's", u.Kind)
		}
	}
	return nil
}

// fault is trouble that lasts.
type fault struct {
	Fault
	number int64 // as the page's model knows it
	until  time.Time
}

func (s *Simulator) serveControl(c *gin.Context) {
	if err := fromOurselves(c.Request); err != nil {
		c.JSON(http.StatusForbidden, gin.H{"error": err.Error()})
		return
	}
	var ctl Control
	d := json.NewDecoder(io.LimitReader(c.Request.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(&ctl)
	if err == nil {
		err = ctl.check()
	}
	if err != nil {
		c.JSON(http.StatusBadRequest, gin.H{"error": err.Error()})
		return
	}
	s.Apply(ctl)
	c.JSON(http.StatusOK, gin.H{"ok": true})
}

// Apply does what a control asks for.
func (s *Simulator) Apply(ctl Control) {
	if ctl.Rate != nil {
		s.SetRate(*ctl.Rate)
	}
	if ctl.Load != nil {
		s.setLoad(*ctl.Load)
	}
	for _, f := range ctl.Files {
		s.WriteFile(f.Chat, f.Kind, f.Bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expireFaults(now)
	if ctl.ClearFaults {
		s.endFaults(now, func(fault) bool { return true })
	}
	for _, f := range ctl.Faults {
		s.beginFault(now, f)
	}
	if ctl.LowerIDs {
		s.bot.queue.restart = max(1, s.bot.queue.head()/2-rand.IntN(1000)) //nolint:gosec // a start like any other
	}
	if ctl.ChatLimit != nil {
		s.limit = *ctl.ChatLimit
	}
	for _, f := range ctl.Forums {
		if c := s.open(f.Chat); c != nil {
			c.topics = map[int]bool{}
			for _, topic := range f.Topics {
				c.topics[topic] = true
			}
		}
	}
	for _, m := range ctl.Messages {
		s.write(m.Chat, m.Thread, m.Text)
	}
	for _, m := range ctl.Migrations {
		s.migrate(now, m.From, m.To)
	}
	for _, u := range ctl.Updates {
		s.push(now, u.Kind, u.Payload, 0, 0, "")
	}
}

func (s *Simulator) beginFault(now time.Time, f Fault) {
	s.faultNumber++
	if f.Kind == FaultWebhook {
		f.Replica = "" // it conflicts with all
	}
	begun := fault{f, s.faultNumber, now.Add(time.Duration(f.Seconds * float64(time.Second)))}
	if len(s.faults) >= maxFaults {
		oldest := s.faults[0].number
		s.endFaults(now, func(f fault) bool { return f.number == oldest })
	}
	s.faults = append(s.faults, begun)
	s.account.model.FaultBegan(now, begun.number, f.Kind, f.Replica, begun.until)
	if f.Kind == FaultWebhook {
		s.abortWaiting(now, conflictSetHook)
		s.bot.webhook = webhookSettings{url: strangeHook, maxConnections: defaultConnections}
	}
}

// endFaults ends some faults, and what they leave.
func (s *Simulator) endFaults(now time.Time, ended func(fault) bool) {
	s.faults = slices.DeleteFunc(s.faults, func(f fault) bool {
		if !ended(f) {
			return false
		}
		s.account.model.FaultEnded(now, f.number)
		return true
	})
	if s.bot.webhook.url == strangeHook && !slices.ContainsFunc(s.faults, func(f fault) bool { return f.Kind == FaultWebhook }) {
		s.bot.webhook = webhookSettings{}
	}
}

// expireFaults ends those whose time is over, and those that have nothing left: a bot may delete a strange webhook.
func (s *Simulator) expireFaults(now time.Time) {
	s.endFaults(now, func(f fault) bool {
		return !now.Before(f.until) || f.Kind == FaultWebhook && s.bot.webhook.url != strangeHook
	})
}

// fault finds the trouble a request is in.
func (s *Simulator) fault(method string, who playground.Who, chat string) (fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expireFaults(now)
	s.account.model.Called(now, who)
	for _, f := range s.faults {
		if f.Kind == FaultWebhook {
			continue
		}
		hit := len(f.Methods) == 0 || slices.ContainsFunc(f.Methods, func(m string) bool { return strings.EqualFold(m, method) })
		if f.Kind == FaultConflict && method != "getupdates" {
			hit = false // no other method conflicts
		}
		if len(f.Chats) > 0 && !slices.ContainsFunc(f.Chats, func(id int64) bool { return strconv.FormatInt(id, 10) == chat }) {
			hit = false
		}
		if hit && (f.Replica == "" || f.Replica == who.Replica) {
			if method == "getupdates" && f.Kind != FaultLatency && f.Kind != FaultTakenLate {
				s.account.model.Refused(now, who.Replica, f.Kind)
			}
			return f, true
		}
	}
	return fault{}, false
}

// inject carries out the fault that a request meets; false if it was answered, or never will be. What is left of the trouble
// comes after the request was carried out: spoil sees to it.
func (s *Simulator) inject(c *gin.Context, method, chat string) (left fault, ok bool) {
	f, ok := s.fault(method, caller(c.Request), chat)
	if !ok {
		return fault{}, true
	}
	switch f.Kind {
	case FaultTakenLate, FaultTakenDrop, FaultTaken502:
		return f, true
	case FaultLatency:
		return fault{}, pause(c.Request.Context(), f.latency())
	case FaultHang:
		if pause(c.Request.Context(), time.Until(f.until)) {
			s.drop(c) // what hung for so long is not answered after all
		}
	case FaultDrop:
		s.drop(c)
	case FaultHTML502:
		badGateway(c)
	case FaultLimit:
		s.reply(c, tooMany(f.RetryAfterSeconds))
	case FaultToken:
		s.reply(c, fail(http.StatusUnauthorized, "Unauthorized"))
	case FaultConflict:
		s.reply(c, fail(http.StatusConflict, conflictPoll))
	case FaultLoggedOut:
		s.reply(c, fail(http.StatusBadRequest, "Logged out"))
	case FaultNotFound:
		s.reply(c, fail(http.StatusNotFound, "Not Found"))
	default:
		s.reply(c, fail(http.StatusInternalServerError, "Internal Server Error"))
	}
	return fault{}, false
}

// spoil does to an answer what is left of the trouble that its request is in; false if the answer does not arrive.
func (s *Simulator) spoil(c *gin.Context, left fault) bool {
	switch left.Kind {
	case FaultTakenLate:
		return pause(c.Request.Context(), left.latency())
	case FaultTakenDrop:
		s.drop(c)
		return false
	case FaultTaken502:
		badGateway(c)
		return false
	}
	return true
}

func (f fault) latency() time.Duration { return time.Duration(f.LatencySeconds * float64(time.Second)) }

// badGateway is the page of a proxy.
func badGateway(c *gin.Context) {
	c.Data(http.StatusBadGateway, "text/html", []byte("<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"))
}

// drop closes the connection without an answer.
func (s *Simulator) drop(c *gin.Context) {
	c.Abort()
	conn, _, err := c.Writer.Hijack()
	if err != nil {
		s.cfg.Logger.Debug("a connection could not be dropped", "error", err)
		return
	}
	if err := conn.Close(); err != nil {
		s.cfg.Logger.Debug("a connection could not be closed", "error", err)
	}
}
