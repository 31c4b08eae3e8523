package simulator

import (
	"slices"
	"strings"
	"time"

	"habot/app/simulator/playground"
)

// Bounds of the account: what is older is only counted.
const (
	maxPolls = 50_000
	// maxRecords leaves room for all that can wait in the queue: a record may go only when it is settled.
	maxRecords = queueCapacity + 50_000
	// lostAfter is how long after its confirmation an update without an answer counts as lost: a bot
	// that confirms before it handles has that long.
	lostAfter = 30 * time.Second
	// maxPollers bounds the names of pollers that are remembered: clients choose them.
	maxPollers = 1000
	// maxStrays bounds the messages remembered that answer no update.
	maxStrays = 10_000
)

// Delivery is one time an update was given to a poller, or one answer to it.
type Delivery struct {
	Poller string    `json:"poller"`
	At     time.Time `json:"at"`
	// Topic is where in its chat an answer went; 0 for none.
	Topic int `json:"message_thread_id,omitempty"`
	// Copy is the copy of a bot behind a gateway that an answer is from; empty if none is named.
	Copy string `json:"copy,omitempty"`
	// By is the name that an answer begins with, "name: text": bots behind a gateway have the same Poller.
	By string `json:"by,omitempty"`
}

// Record is the account of one update.
type Record struct {
	Serial    int64      `json:"serial"`
	ID        int        `json:"update_id"`
	Chat      int64      `json:"chat_id,omitempty"`
	Topic     int        `json:"message_thread_id,omitempty"`
	Text      string     `json:"text,omitempty"`
	Sent      time.Time  `json:"sent"`
	Delivered []Delivery `json:"delivered,omitempty"`
	Confirmed time.Time  `json:"confirmed,omitzero"`
	Answered  []Delivery `json:"answered,omitempty"`
	// Dropped says why it was never confirmed: expired, full, or dropped on request.
	Dropped string `json:"dropped,omitempty"`

	lost bool // it is counted as such
}

// Stray is a message that answers no update, such as one that a bot sends by the clock.
type Stray struct {
	Number int64     `json:"number"`
	Poller string    `json:"poller"`
	At     time.Time `json:"at"`
	Chat   int64     `json:"chat_id"`
	Text   string    `json:"text"`
}

// PollRecord is the account of one getUpdates that reached the queue.
type PollRecord struct {
	Number int64     `json:"number"`
	Poller string    `json:"poller"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end,omitzero"`
	Offset int       `json:"offset"`
	// Updates is how many it got; Code 0 while it waits, and if its client went away.
	Updates int `json:"updates"`
	Code    int `json:"code"`
	// Overlaps names a poller whose poll was under way when this one began.
	Overlaps string `json:"overlaps,omitempty"`
}

// Handover is one change of poller: how long no client polled between the two.
type Handover struct {
	From string    `json:"from"`
	To   string    `json:"to"`
	At   time.Time `json:"at"`
	// GapSeconds is from the end of the last poll of From; 0 if that was still under way.
	GapSeconds float64 `json:"gap_seconds"`
}

// Report is the whole account, in numbers.
type Report struct {
	Sent            int64 `json:"sent"`
	Delivered       int64 `json:"delivered"`
	Confirmed       int64 `json:"confirmed"`
	Answered        int64 `json:"answered"`
	AnsweredTwice   int64 `json:"answered_twice"`
	Lost            int64 `json:"lost"`
	Dropped         int64 `json:"dropped"`
	Unanswered      int64 `json:"unanswered"` // sent, neither answered nor dropped
	OutOfOrder      int64 `json:"out_of_order"`
	StrayMessages   int64 `json:"stray_messages"` // messages that answer no update
	Misplaced       int64 `json:"misplaced"`      // answers in another topic than the update's
	Polls           int64 `json:"polls"`
	Overlaps        int64 `json:"overlaps"`
	Conflicts       int64 `json:"conflicts"`
	PollerChanges   int64 `json:"poller_changes"`
	PollersReturned int64 `json:"pollers_returned"` // a poller polled again soon after another took over
	// LongestUnpolledSeconds is the longest time without a poll under way, since the first.
	LongestUnpolledSeconds float64    `json:"longest_unpolled_seconds"`
	Poller                 string     `json:"poller"`
	Handovers              []Handover `json:"handovers"`
}

// returnedWithin: a poller that polls again this soon after another took over was not gone.
const returnedWithin = 10 * time.Second

// maxHandovers bounds the changes of poller remembered.
const maxHandovers = 1000

type textKey struct {
	chat int64
	text string
}

// account is what became of every update and every poll. It is pure.
type account struct {
	// model is what the page shows of it.
	model     *playground.Model
	serial    int64
	records   map[int64]*Record
	oldest    int64
	texts     map[textKey][]int64 // serials, the oldest first: a user may say the same again
	lastReply map[int64]int64     // chat: the serial answered last
	formerly  map[int64]int64     // supergroup: the group that it was
	report    Report
	// overdue are updates that were confirmed without an answer, the oldest first: after lostAfter they are lost.
	overdue []overdue
	strays  []Stray // the oldest first

	polls      []*PollRecord
	pollNumber int64
	underWay   []*PollRecord // the oldest first
	idleSince  time.Time     // since when no poll is under way; zero before the first
	lastEnd    map[string]time.Time
	displaced  map[string]time.Time // poller: when another took over from it
}

// overdue is an update that was confirmed at a time without an answer.
type overdue struct {
	record *Record
	since  time.Time
}

func newAccount(shown ...int64) *account {
	return &account{
		model:   playground.New(shown),
		records: map[int64]*Record{}, oldest: 1, texts: map[textKey][]int64{}, lastReply: map[int64]int64{}, formerly: map[int64]int64{},
		lastEnd: map[string]time.Time{}, displaced: map[string]time.Time{},
	}
}

// sent takes note of a new update and returns its serial number.
func (a *account) sent(now time.Time, id int, chat int64, topic int, text string) int64 {
	a.serial++
	a.records[a.serial] = &Record{Serial: a.serial, ID: id, Chat: chat, Topic: topic, Text: text, Sent: now}
	if text != "" {
		key := textKey{chat, text}
		a.texts[key] = append(a.texts[key], a.serial)
		a.report.Unanswered++
	}
	a.report.Sent++
	for len(a.records) > maxRecords {
		a.forget()
	}
	return a.serial
}

// forget drops the oldest record; what it says is settled by then.
func (a *account) forget() {
	if r := a.records[a.oldest]; r != nil {
		a.lose(r)
		key := textKey{r.Chat, r.Text}
		if same := a.texts[key]; len(same) > 1 {
			a.texts[key] = same[1:] // the oldest record is the first of its text
		} else {
			delete(a.texts, key)
		}
		delete(a.records, a.oldest)
	}
	a.oldest++
}

// isUnanswered tells whether an update that expects an answer, and was not dropped, has none.
func (r *Record) isUnanswered() bool {
	return r.Text != "" && r.Dropped == "" && len(r.Answered) == 0
}

// lose counts an update as lost that was confirmed and has no answer.
func (a *account) lose(r *Record) {
	if !r.Confirmed.IsZero() && r.Text != "" && len(r.Answered) == 0 && !r.lost {
		r.lost = true
		a.report.Lost++
	}
}

// loseOverdue loses what was confirmed long enough ago.
func (a *account) loseOverdue(now time.Time) {
	for len(a.overdue) > 0 && now.Sub(a.overdue[0].since) > lostAfter {
		a.lose(a.overdue[0].record)
		a.overdue[0].record = nil
		a.overdue = a.overdue[1:]
	}
}

func (a *account) delivered(now time.Time, poller string, updates []queued) {
	for _, u := range updates {
		r := a.records[u.serial]
		if r == nil {
			continue
		}
		a.model.Delivered(now, u.serial, poller)
		if len(r.Delivered) == 0 {
			a.report.Delivered++
		}
		if len(r.Delivered) < 20 {
			r.Delivered = append(r.Delivered, Delivery{Poller: poller, At: now})
		}
	}
}

func (a *account) confirmed(now time.Time, updates []queued) {
	a.loseOverdue(now)
	for _, u := range updates {
		if r := a.records[u.serial]; r != nil && r.Confirmed.IsZero() {
			r.Confirmed = now
			a.report.Confirmed++
			a.model.Confirmed(u.serial)
			if r.Text != "" && len(r.Answered) == 0 {
				a.overdue = append(a.overdue, overdue{r, now})
			}
		}
	}
}

func (a *account) dropped(updates []queued, why string) {
	for _, u := range updates {
		if r := a.records[u.serial]; r != nil && r.Dropped == "" {
			if r.isUnanswered() {
				a.report.Unanswered--
			}
			r.Dropped = why
			a.report.Dropped++
			a.model.Dropped(u.serial, why)
		}
	}
}

// moves takes note that a group is a supergroup now: what was written in the one is answered in the other.
func (a *account) moves(from, to int64) { a.formerly[to] = from }

// said finds the updates of a chat with a text, or with what follows a name in it: "name: text".
func (a *account) said(chat int64, text string) (serials []int64, by string) {
	if same := a.texts[textKey{chat, text}]; len(same) > 0 {
		return same, ""
	}
	by, rest, cut := strings.Cut(text, ": ")
	if !cut {
		return nil, ""
	}
	return a.texts[textKey{chat, rest}], by
}

// answered finds the update that a message answers, and takes note of it.
func (a *account) answered(now time.Time, who playground.Who, chat int64, topic int, text string) {
	same, by := a.said(chat, text)
	if from, moved := a.formerly[chat]; len(same) == 0 && moved {
		same, by = a.said(from, text)
	}
	if len(same) == 0 {
		a.report.StrayMessages++
		a.strays = append(a.strays, Stray{Number: a.report.StrayMessages, Poller: who.Replica, At: now, Chat: chat, Text: text})
		if len(a.strays) > maxStrays {
			a.strays = append([]Stray(nil), a.strays[len(a.strays)-maxStrays/2:]...)
		}
		a.model.Said(now, chat, who, text)
		return
	}
	serial := same[len(same)-1]
	for _, s := range same { // of updates that say the same, the first without an answer is meant
		if len(a.records[s].Answered) == 0 {
			serial = s
			break
		}
	}
	r := a.records[serial]
	if topic != r.Topic {
		a.report.Misplaced++
	}
	switch len(r.Answered) {
	case 0:
		a.report.Answered++
		if r.isUnanswered() {
			a.report.Unanswered--
		}
		if r.lost {
			r.lost = false
			a.report.Lost--
		}
		if serial < a.lastReply[chat] {
			a.report.OutOfOrder++
		}
		a.lastReply[chat] = max(serial, a.lastReply[chat])
	case 1:
		a.report.AnsweredTwice++
	}
	a.model.Answered(now, serial, r.Sent, len(r.Answered) == 0, who, text)
	if len(r.Answered) < 20 {
		r.Answered = append(r.Answered, Delivery{Poller: who.Replica, At: now, Topic: topic, Copy: who.Copy, By: by})
	}
}

// pollBegan takes note of a poll that reached the queue.
func (a *account) pollBegan(now time.Time, poller string, offset int) *PollRecord {
	a.pollNumber++
	p := &PollRecord{Number: a.pollNumber, Poller: poller, Start: now, Offset: offset}
	a.model.PollBegan(now, poller)
	a.report.Polls++
	for _, o := range slices.Backward(a.underWay) {
		if o.Poller != poller {
			p.Overlaps = o.Poller
			a.report.Overlaps++
			break
		}
	}
	if len(a.underWay) == 0 && !a.idleSince.IsZero() {
		a.report.LongestUnpolledSeconds = max(a.report.LongestUnpolledSeconds, now.Sub(a.idleSince).Seconds())
	}
	if last := a.report.Poller; last != "" && last != poller {
		a.handover(now, last, poller)
	}
	a.report.Poller = poller
	a.underWay = append(a.underWay, p)
	a.polls = append(a.polls, p)
	if len(a.polls) > maxPolls {
		a.polls = append([]*PollRecord(nil), a.polls[len(a.polls)-maxPolls/2:]...)
	}
	return p
}

func (a *account) handover(now time.Time, from, to string) {
	a.report.PollerChanges++
	if since, ok := a.displaced[to]; ok && now.Sub(since) < returnedWithin {
		a.report.PollersReturned++
	}
	remember(a.displaced, from, now)
	h := Handover{From: from, To: to, At: now}
	if end, ended := a.lastEnd[from]; ended && !slices.ContainsFunc(a.underWay, func(p *PollRecord) bool { return p.Poller == from }) {
		h.GapSeconds = now.Sub(end).Seconds()
	}
	a.report.Handovers = append(a.report.Handovers, h)
	if n := len(a.report.Handovers); n > maxHandovers {
		a.report.Handovers = a.report.Handovers[n-maxHandovers:]
	}
}

// remember keeps a time for a poller; of too many all others are forgotten.
func remember(times map[string]time.Time, poller string, at time.Time) {
	if _, known := times[poller]; !known && len(times) >= maxPollers {
		clear(times)
	}
	times[poller] = at
}

// pollEnded takes note of its end; code 0 says that the client went away.
func (a *account) pollEnded(now time.Time, p *PollRecord, updates, code int) {
	p.End, p.Updates, p.Code = now, updates, code
	a.model.PollEnded(now, p.Poller, code)
	remember(a.lastEnd, p.Poller, now)
	if code == 409 {
		a.report.Conflicts++
	}
	a.underWay = slices.DeleteFunc(a.underWay, func(o *PollRecord) bool { return o == p })
	if len(a.underWay) == 0 {
		a.idleSince = now
	}
}

// sum is the report at a moment. Moments MUST NOT go back.
func (a *account) sum(now time.Time) Report {
	r := a.numbers(now)
	r.Handovers = append([]Handover{}, a.report.Handovers...)
	return r
}

// numbers are the report without its list. It takes no longer the more there is to account for.
func (a *account) numbers(now time.Time) Report {
	a.loseOverdue(now)
	r := a.report
	if len(a.underWay) == 0 && !a.idleSince.IsZero() {
		r.LongestUnpolledSeconds = max(r.LongestUnpolledSeconds, now.Sub(a.idleSince).Seconds())
	}
	r.Handovers = nil
	return r
}
