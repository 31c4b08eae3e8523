package playground

import (
	"encoding/json"
	"slices"
	"time"

	"habot/app/page"
)

// Person is one that the page may write as.
type Person struct {
	Chat int64  `json:"chat_id"`
	Name string `json:"name"`
	// Simulated: this one writes by itself, too.
	Simulated bool `json:"simulated,omitempty"`
}

// Tally is what became of all updates.
type Tally struct {
	Sent          int64 `json:"sent"`
	Answered      int64 `json:"answered"`
	Waiting       int64 `json:"waiting"`
	AnsweredTwice int64 `json:"answered_twice"`
	Lost          int64 `json:"lost"`
	Dropped       int64 `json:"dropped"`
	Conflicts     int64 `json:"conflicts"`
	Changes       int64 `json:"changes"`
	// LongestUnpolled is in seconds.
	LongestUnpolled float64 `json:"longest_unpolled_seconds"`
}

// Load is how much the simulated users write.
type Load struct {
	// Rate is messages a second now; Usual is that without a load.
	Rate  float64 `json:"rate"`
	Usual float64 `json:"usual"`
	// Until is when the load ends; 0 if there is none.
	Until page.Micros `json:"until_us,omitempty"`
}

// Quantiles are how long answers took, in milliseconds.
type Quantiles struct {
	Answers int     `json:"answers"`
	Median  float64 `json:"median_ms"`
	P95     float64 `json:"p95_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

// QuantilesOf are the percentiles of durations, each that of a duration which occurred (nearest rank). It sorts them.
func QuantilesOf(took []time.Duration) Quantiles {
	q := Quantiles{Answers: len(took)}
	if len(took) == 0 {
		return q
	}
	slices.Sort(took)
	rank := func(percent int) float64 {
		n := (percent*len(took) + 99) / 100
		return float64(took[max(0, n-1)].Microseconds()) / 1000
	}
	q.Median, q.P95, q.P99, q.Max = rank(50), rank(95), rank(99), rank(100)
	return q
}

// Frame is what the page gets at once.
type Frame struct {
	// Run is another one after each start of the simulator: what was shown before is over.
	Run string `json:"run"`
	// Full: this is all there is, not what has changed.
	Full    bool        `json:"full,omitempty"`
	Version uint64      `json:"-"`
	Now     page.Micros `json:"now_us"`
	page.Lanes
	// Copies are the lanes of copies behind a gateway: who answered. There are none if no copy has asked for anything.
	Copies page.Lanes `json:"copies,omitzero"`
	// Poller is who polled last; Polling tells whether a poll is under way.
	Poller            string    `json:"poller,omitempty"`
	Polling           bool      `json:"polling"`
	Messages          []Message `json:"messages,omitempty"`
	Tally             Tally     `json:"tally"`
	SentPerSecond     float64   `json:"sent_per_second"`
	AnsweredPerSecond float64   `json:"answered_per_second"`
	Load              Load      `json:"load"`
	// Quantiles are those of the last minute, in a full frame and once a second.
	Quantiles *Quantiles `json:"quantiles,omitempty"`
	// People and Project go with a full frame. Project is the Compose project's name; empty if not known.
	People  []Person `json:"people,omitempty"`
	Project string   `json:"project,omitempty"`

	took []time.Duration
}

// JSON is the frame as the page gets it. It makes the percentiles: a caller that locks the model need not lock it for that.
func (f Frame) JSON() []byte {
	if f.took != nil {
		q := QuantilesOf(f.took)
		f.Quantiles = &q
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return []byte("{}") // it cannot fail: its values are plain
	}
	return raw
}
