package admins

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/message"
)

// Cluster is what the commands show and move.
type Cluster interface {
	View() election.View
	// Switchover moves the role to a replica, by name; any if successor is empty. It returns once
	// the move is under way.
	Switchover(ctx context.Context, successor string) error
}

// Config is what Admins are made of.
type Config struct {
	Chats   []int64 // ADMIN_CHAT_IDS
	Name    string  // of this replica, for people
	Cluster Cluster
	// Facts are what this replica knows now. Reaches tells whether the way to Telegram works.
	Facts func() diagnosis.Facts
	// Backends is what is known of webhook backends or copies of a polling bot, a line each; nil for none.
	Backends func() []string
	Reaches  func() bool
	// Locate has Telegram show where a chat is, and tells of it by Moved or Stays. It ends with ctx.
	Locate func(ctx context.Context, chat int64)
	// Username is the bot's own name, which Telegram is asked for if it is not known yet; empty if it does not answer.
	Username   func(ctx context.Context) string
	Sender     *message.Sender
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Admins are the chats of ADMIN_CHAT_IDS. Its methods are safe for concurrent use.
type Admins struct {
	cfg      Config
	messages *prometheus.CounterVec
	took     chan struct{} // this replica has become primary
	news     chan string   // for the next message

	mu     sync.Mutex
	muted  map[int64]bool  // chats that refused the last message
	moved  map[int64]int64 // those that became supergroups, and which
	placed map[int64]bool  // those that were there when their commands were set
}

// New returns admins that were sent nothing yet.
func New(cfg Config) *Admins {
	a := &Admins{
		cfg: cfg, took: make(chan struct{}, 1), news: make(chan string, maxNews), muted: map[int64]bool{}, moved: map[int64]int64{}, placed: map[int64]bool{},
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_admin_messages_total", Help: "Messages to admins' chats about changes of primary and trouble, by what became of them.",
		}, []string{"outcome"}),
	}
	for _, o := range []string{outcomeSent, outcomeRefused, outcomeFailed} {
		a.messages.WithLabelValues(o)
	}
	cfg.Registerer.MustRegister(a.messages)
	return a
}

// All are the chats of ADMIN_CHAT_IDS where they are now, each once.
func (a *Admins) All() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []int64
	for _, chat := range a.cfg.Chats {
		if to, moved := a.moved[chat]; moved {
			chat = to
		}
		if !slices.Contains(all, chat) {
			all = append(all, chat)
		}
	}
	return all
}

// Is tells whether a chat is one of ADMIN_CHAT_IDS, or what one has become.
func (a *Admins) Is(chat int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.cfg.Chats, chat) {
		return true
	}
	for _, to := range a.moved {
		if to == chat {
			return true
		}
	}
	return false
}

// Moved takes in that a group has become a supergroup, which has another id. Only admins' chats are remembered: what
// users write comes from the new chat already.
func (a *Admins) Moved(from, to int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.moved[from]; known || !slices.Contains(a.cfg.Chats, from) {
		return
	}
	a.moved[from] = to
	a.cfg.Logger.Warn("an admin chat has become a supergroup: write its new id into ADMIN_CHAT_IDS", "chat_id", from, "new_chat_id", to)
}

// locateBound bounds asking where chats are.
const locateBound = 2 * time.Second

// supergroups have ids below this one, which begin with -100; those of basic groups, which may become supergroups, lie above.
const supergroups = -1_000_000_000_000

// mayCommand tells whether the operating commands are for a chat. A process that has just started does not know which groups
// have moved: before it refuses a supergroup it asks about those that it has not asked about.
func (a *Admins) mayCommand(ctx context.Context, chat int64) bool {
	if a.Is(chat) || chat > supergroups {
		return a.Is(chat)
	}
	ctx, cancel := context.WithTimeout(ctx, locateBound)
	defer cancel()
	for _, admin := range a.cfg.Chats {
		if admin < 0 && admin > supergroups && !a.placeKnown(admin) {
			a.cfg.Locate(ctx, admin)
		}
	}
	return a.Is(chat)
}

// placeKnown tells whether Telegram has said since this process started where an admin chat is.
func (a *Admins) placeKnown(chat int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, moved := a.moved[chat]
	return moved || a.placed[chat]
}

// Stays takes note that Telegram knows an admin chat by its id.
func (a *Admins) Stays(chat int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.placed[chat] = true
}
