package message

import (
	"context"
	"sync"
	"time"

	"habot/app/telegram"
)

// maxMoves is how often one message follows a chat to another id. Telegram moves a group once.
const maxMoves = 2

// Place is where a message goes.
type Place struct {
	Chat   int64
	Thread int   // the forum's topic; 0 for none, and for General, which has none
	Direct int64 // the topic of a channel's direct messages; 0 for none
}

// Message is one message to send.
type Message struct {
	To   Place
	Text string // at most MaxText units
	HTML bool
}

// Plain makes messages of a text, as many as it takes.
func Plain(to Place, text string) []Message { return messages(to, text, false) }

// HTML makes messages of a text with HTML entities and tags, as many as it takes.
func HTML(to Place, text string) []Message { return messages(to, text, true) }

func messages(to Place, text string, html bool) []Message {
	var all []Message
	for _, part := range Split(text, MaxText) {
		all = append(all, Message{To: to, Text: part, HTML: html})
	}
	return all
}

// Pace is what the attempts to send a message wait for.
type Pace struct {
	// Longest is between two attempts that did not reach Telegram.
	Longest time.Duration
	// Begin is called before each attempt with what bounds it.
	Begin func(bound time.Duration)
	// Pause is the wait between two attempts, which Telegram may have asked for; false if there is to be none.
	Pause func(ctx context.Context, d time.Duration, asked bool) bool
}

// Caller calls methods of the Bot API; *telegram.Client is one.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// Sender sends messages. It is safe for concurrent use.
type Sender struct {
	caller Caller
	moved  func(from, to int64)

	mu  sync.Mutex
	lag telegram.Lag
}

// New returns a sender. moved is called when a group that is written to turns out to have become a supergroup, concurrently.
func New(caller Caller, moved func(from, to int64)) *Sender {
	return &Sender{caller: caller, moved: moved}
}

// params are sendMessage's.
type params struct {
	Chat      int64  `json:"chat_id"`
	Thread    int    `json:"message_thread_id,omitempty"`
	Direct    int64  `json:"direct_messages_topic_id,omitempty"`
	Text      string `json:"text"`
	ParseMode string `json:"parse_mode,omitempty"`
}

// Send sends one message, as Try does. It follows a group that became a supergroup.
func (s *Sender) Send(ctx context.Context, m Message, p Pace) (telegram.Verdict, error) {
	params := params{Chat: m.To.Chat, Thread: m.To.Thread, Direct: m.To.Direct, Text: m.Text}
	if m.HTML {
		params.ParseMode = "HTML"
	}
	moves := 0
	return Try(ctx, p, s.bound, func(bound time.Duration) error {
		for {
			err := s.sendOnce(ctx, params, bound)
			to := telegram.MovedTo(err)
			if to == 0 || moves == maxMoves {
				return err
			}
			moves++
			s.moved(params.Chat, to)
			params.Chat = to
			p.Begin(bound)
		}
	})
}

// bound bounds one request that sends.
func (s *Sender) bound() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lag.Bound(Bound, longestSend)
}

func (s *Sender) sendOnce(ctx context.Context, p params, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	err := s.caller.Call(ctx, "sendMessage", p, nil)
	if err == nil {
		s.mu.Lock()
		s.lag.Saw(time.Since(start))
		s.mu.Unlock()
	}
	return err //nolint:wrapcheck // judged and wrapped by the caller
}
