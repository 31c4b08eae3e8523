package playground

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"habot/app/page"
)

// Bounds of what is kept.
const (
	// maxLanes bounds the lanes: clients choose their names.
	maxLanes = 64
	// Of each kind of what the lanes show. The page shows ten minutes at most.
	maxSpans, maxGaps, maxMarks, maxShades, maxChanges = 3000, 500, 1000, 200, 200
	// maxMessages is how many messages of a chat are kept.
	maxMessages = 60
	// maxAnswers is how many answers to one message are shown; more are counted.
	maxAnswers = 5
	// maxTimes is how many of the last minute's answers percentiles are made of; the latest count.
	maxTimes = 5000
	// maxShown bounds a text, in bytes: longer ones are cut.
	maxShown = 8 << 10
)

const (
	// pause is the longest time between two polls of one poller that counts as one span: a poll that brings updates is
	// followed by the next once they are handled.
	pause = 50 * time.Millisecond
	// forgotten is how long a lane stays that does nothing.
	forgotten = 10 * time.Minute
	// quantiled is the time that percentiles look back, and how often they are made.
	quantiled, quantilesEvery = time.Minute, time.Second
	// rated is how many seconds the numbers per second are means of.
	rated = 5
	// commanded is how long after a command a message of the bot counts as its answer.
	commanded = 30 * time.Second
)

// Answer is one answer to a message.
type Answer struct {
	Who
	At   page.Micros `json:"at_us"`
	Text string      `json:"text"`
}

// Who is a client of the Bot API.
type Who struct {
	// Replica is the replica's name; that of another client is its address.
	Replica string `json:"who"`
	// Copy is the copy of a bot behind a gateway that the replica asks for; empty if it asks for none.
	Copy string `json:"copy,omitempty"`
}

// Message is one that was written in a chat, and what became of it.
type Message struct {
	ID   int64       `json:"id"`
	Chat int64       `json:"chat_id"`
	Text string      `json:"text"`
	At   page.Micros `json:"at_us"`
	// Bot is who wrote it where that was the bot, of its own accord; zero: the chat's user did.
	Bot Who `json:"bot,omitzero"`
	// Expects: the tally counts on an answer. To a command it does not know what the answer is.
	Expects bool `json:"expects,omitempty"`
	// Delivered is who polled it first.
	Delivered   string      `json:"delivered,omitempty"`
	DeliveredAt page.Micros `json:"delivered_us,omitempty"`
	Confirmed   bool        `json:"confirmed,omitempty"`
	Answers     []Answer    `json:"answers,omitempty"`
	// Times is how often it was answered.
	Times   int    `json:"times,omitempty"`
	Dropped string `json:"dropped,omitempty"`

	serial int64 // in the tally; 0 for the bot's own
}

// lane is one poller, or one that only asks.
type lane struct {
	page.Lane
	polls int // under way
	span  *item[page.Span]
}

// chat is what was written in one.
type chat struct {
	messages list[Message]
}

// Model is what the page shows. It is not safe for concurrent use. Times MUST NOT go back.
type Model struct {
	version, ids uint64

	lanes   map[string]*lane
	open    int // polls under way
	poller  string
	idle    time.Time // since when no poll is under way; zero while one is, and before the first
	gap     *item[page.Gap]
	spans   list[page.Span]
	gaps    list[page.Gap]
	marks   list[page.Mark]
	shades  list[page.Shade]
	changes list[page.Change]
	faults  map[int64]*item[page.Shade] // those that last, by the caller's number

	copies copies

	chats   map[int64]*chat
	pending map[int64]*item[Message] // by serial

	times      []took // the oldest first
	quantiles  time.Time
	sent, done perSecond
}

type took struct {
	at time.Time
	d  time.Duration
}

// New returns a model of nothing. Chats are those whose messages are shown.
func New(chats []int64) *Model {
	m := &Model{
		version: 1, // 0 stands for nothing seen yet
		lanes:   map[string]*lane{}, faults: map[int64]*item[page.Shade]{}, chats: map[int64]*chat{}, pending: map[int64]*item[Message]{},
		spans: list[page.Span]{most: maxSpans}, gaps: list[page.Gap]{most: maxGaps}, marks: list[page.Mark]{most: maxMarks},
		shades: list[page.Shade]{most: maxShades}, changes: list[page.Change]{most: maxChanges}, copies: newCopies(),
	}
	for _, id := range chats {
		m.chats[id] = &chat{list[Message]{most: maxMessages}}
	}
	return m
}

func (m *Model) next() uint64 {
	m.version++
	return m.version
}

func (m *Model) id() int64 {
	m.ids++
	return int64(m.ids) //nolint:gosec // counted by one
}

// lane is that of a name; nil if there are too many.
func (m *Model) lane(now time.Time, name string) *lane {
	l := m.lanes[name]
	if l == nil {
		if len(m.lanes) >= maxLanes {
			return nil
		}
		l = &lane{Lane: page.Lane{Name: name}}
		m.lanes[name] = l
	}
	l.Seen = page.At(now)
	return l
}

// Called takes note that someone made a request.
func (m *Model) Called(now time.Time, who Who) {
	m.lane(now, who.Replica)
	m.copies.called(now, who.Copy)
}

// PollBegan takes note of a poll that Telegram looks at.
func (m *Model) PollBegan(now time.Time, who string) {
	m.settle(now)
	if m.poller != "" && m.poller != who {
		m.change(now, who)
	}
	if m.gap != nil {
		m.gap.value.To, m.gap.value.After, m.gap.version = page.At(now), who, m.next()
		m.gap = nil
	}
	m.poller, m.idle = who, time.Time{}
	m.open++
	l := m.lane(now, who)
	if l == nil {
		return
	}
	l.polls++
	if s := l.span; s != nil && (s.value.To == 0 || page.At(now)-s.value.To < page.Micros(pause.Microseconds())) {
		s.value.To, s.version = 0, m.next()
		s.value.Polls++
		return
	}
	l.span, _ = m.spans.add(m.next(), page.Span{ID: m.id(), Who: who, From: page.At(now), Polls: 1})
}

// change takes note that another polls now. The gap before it is shown however short it is.
func (m *Model) change(now time.Time, who string) {
	c := page.Change{ID: m.id(), From: m.poller, To: who, At: page.At(now)}
	before := m.lanes[m.poller]
	switch {
	case !m.idle.IsZero():
		gap := now.Sub(m.idle).Microseconds()
		c.Gap = &gap
		m.unpolled()
	case before == nil || before.polls == 0: // a third one polls
		gap := int64(0)
		c.Gap = &gap
	default:
		c.Reason = "the poll of " + m.poller + " was still open: frozen, cut off, or a second bot"
	}
	m.changes.add(m.next(), c)
}

// unpolled takes note of the gap that began when the last poll ended.
func (m *Model) unpolled() {
	if m.gap == nil {
		m.gap, _ = m.gaps.add(m.next(), page.Gap{ID: m.id(), From: page.At(m.idle), Before: m.poller})
	}
}

// PollEnded takes note of its end. Code 0: the client went away.
func (m *Model) PollEnded(now time.Time, who string, code int) {
	if m.open--; m.open == 0 {
		m.idle = now
	}
	l := m.lanes[who]
	if l == nil || l.polls == 0 { // one of too many
		return
	}
	l.Seen = page.At(now)
	if l.polls--; l.polls == 0 && l.span != nil {
		l.span.value.To, l.span.version = page.At(now), m.next()
		if code != 200 {
			l.span = nil // what follows is another span
		}
	}
	if code == 409 {
		m.Refused(now, who, "409")
	}
}

// Refused takes note that a poll got an answer of a kind that it could not use.
func (m *Model) Refused(now time.Time, who, kind string) {
	if m.lane(now, who) != nil {
		m.marks.add(m.next(), page.Mark{ID: m.id(), Who: who, At: page.At(now), Kind: kind})
	}
}

// FaultBegan takes note of a fault by a number that is the caller's, of one replica or of all.
func (m *Model) FaultBegan(now time.Time, number int64, kind, who string, until time.Time) {
	added, _ := m.shades.add(m.next(), page.Shade{ID: m.id(), Kind: kind, Who: who, From: page.At(now), To: page.At(until)})
	m.faults[number] = added
}

// FaultEnded takes note that a fault is over, at its time or before.
func (m *Model) FaultEnded(now time.Time, number int64) {
	f := m.faults[number]
	if f == nil {
		return
	}
	delete(m.faults, number)
	if at := page.At(now); at < f.value.To {
		f.value.To, f.version = at, m.next()
	}
}

// cut bounds a text.
func cut(text string) string {
	if len(text) > maxShown {
		return strings.ToValidUTF8(text[:maxShown], "") + "..."
	}
	return text
}

func (c *chat) add(m *Model, w Message) *item[Message] {
	w.ID, w.Text = m.id(), cut(w.Text)
	added, gone := c.messages.add(m.next(), w)
	if gone != nil {
		delete(m.pending, gone.value.serial)
	}
	return added
}

// Wrote takes note of what a user wrote; serial is its number in the tally.
func (m *Model) Wrote(now time.Time, serial, chat int64, text string, expects bool) {
	m.sent.count(now)
	if c := m.chats[chat]; c != nil {
		m.pending[serial] = c.add(m, Message{Chat: chat, Text: text, At: page.At(now), Expects: expects, serial: serial})
	}
}

// Delivered takes note of who polled it.
func (m *Model) Delivered(now time.Time, serial int64, who string) {
	if w := m.pending[serial]; w != nil && w.value.Delivered == "" {
		w.value.Delivered, w.value.DeliveredAt, w.version = who, page.At(now), m.next()
	}
}

// Confirmed takes note that the bot polled for what follows it.
func (m *Model) Confirmed(serial int64) {
	if w := m.pending[serial]; w != nil {
		w.value.Confirmed, w.version = true, m.next()
	}
}

// Dropped takes note that Telegram delivers it no more.
func (m *Model) Dropped(serial int64, why string) {
	if w := m.pending[serial]; w != nil {
		w.value.Dropped, w.version = why, m.next()
	}
}

// Answered takes note of an answer to a message that was sent at a time.
func (m *Model) Answered(now time.Time, serial int64, sent time.Time, first bool, who Who, text string) {
	if !first {
		sent = time.Time{} // it did not wait
	}
	m.copyAnswered(now, sent, who.Copy)
	if first {
		m.done.count(now)
		if m.times = append(m.times, took{now, now.Sub(sent)}); len(m.times) > 2*maxTimes {
			m.times = append(m.times[:0], m.times[len(m.times)-maxTimes:]...)
		}
	}
	if w := m.pending[serial]; w != nil {
		m.answer(now, w, who, text)
	}
}

func (m *Model) answer(now time.Time, w *item[Message], who Who, text string) {
	w.version = m.next()
	w.value.Times++
	if len(w.value.Answers) < maxAnswers {
		w.value.Answers = append(w.value.Answers, Answer{Who: who, At: page.At(now), Text: cut(text)})
	}
}

// Said takes note of a message of the bot that answers nothing the tally knows of. One that follows a command in its chat
// is shown as that one's answer.
func (m *Model) Said(now time.Time, chat int64, who Who, text string) {
	c := m.chats[chat]
	if c == nil {
		return
	}
	for _, w := range c.messages.items {
		v := w.value
		if v.Bot == (Who{}) && !v.Expects && v.Times == 0 && v.Delivered != "" && page.At(now)-v.At < page.Micros(commanded.Microseconds()) {
			m.copyAnswered(now, v.At.Time(), who.Copy)
			m.answer(now, w, who, text)
			return
		}
	}
	c.add(m, Message{Chat: chat, Text: text, At: page.At(now), Bot: who})
}

// settle takes note of what the time alone has changed.
func (m *Model) settle(now time.Time) {
	if m.gap == nil && !m.idle.IsZero() && now.Sub(m.idle) >= pause {
		m.unpolled()
	}
	for name, l := range m.lanes {
		if l.polls == 0 && page.At(now)-l.Seen > page.Micros(forgotten.Microseconds()) {
			delete(m.lanes, name)
		}
	}
	m.copies.forget(now)
}

// Frame is what has changed since a version, and what is shown whole in each frame; since 0 it is all there is. It
// shares nothing with the model that changes later.
func (m *Model) Frame(now time.Time, since uint64) Frame {
	m.settle(now)
	f := Frame{
		Full: since == 0, Version: m.version, Now: page.At(now), Poller: m.poller, Polling: m.open > 0,
		SentPerSecond: m.sent.mean(now), AnsweredPerSecond: m.done.mean(now),
		Lanes: page.Lanes{
			Lanes: []page.Lane{}, Spans: m.spans.since(since), Gaps: m.gaps.since(since), Marks: m.marks.since(since),
			Shades: m.shades.since(since), Changes: m.changes.since(since),
		},
	}
	for _, l := range m.lanes {
		f.Lanes.Lanes = append(f.Lanes.Lanes, l.Lane)
	}
	slices.SortFunc(f.Lanes.Lanes, func(a, b page.Lane) int { return cmp.Compare(a.Name, b.Name) })
	f.Copies = m.copies.since(since)
	for _, c := range m.chats {
		f.Messages = append(f.Messages, c.messages.since(since)...)
	}
	slices.SortFunc(f.Messages, func(a, b Message) int { return cmp.Compare(a.ID, b.ID) })
	if f.Full || now.Sub(m.quantiles) >= quantilesEvery {
		m.quantiles = now
		f.took = m.lately(now)
	}
	return f
}

// lately is how long the answers of the last minute took.
func (m *Model) lately(now time.Time) []time.Duration {
	from := max(0, len(m.times)-maxTimes)
	for from < len(m.times) && now.Sub(m.times[from].at) > quantiled {
		from++
	}
	all := make([]time.Duration, 0, len(m.times)-from)
	for _, t := range m.times[from:] {
		all = append(all, t.d)
	}
	m.times = m.times[from:]
	return all
}

// perSecond counts what happens in each of the last seconds.
type perSecond struct {
	second int64 // the latest one
	counts [rated + 1]int64
}

func (p *perSecond) at(now time.Time) {
	second := now.Unix()
	for n := 0; p.second < second && n < len(p.counts); n++ {
		p.second++
		p.counts[p.second%int64(len(p.counts))] = 0
		if n == len(p.counts)-1 {
			p.second = second // all are past
		}
	}
}

func (p *perSecond) count(now time.Time) {
	p.at(now)
	p.counts[p.second%int64(len(p.counts))]++
}

// mean is that of the last whole seconds.
func (p *perSecond) mean(now time.Time) float64 {
	p.at(now)
	sum := -p.counts[p.second%int64(len(p.counts))]
	for _, n := range p.counts {
		sum += n
	}
	return float64(sum) / rated
}
