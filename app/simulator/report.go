package simulator

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// maxListed bounds one page of the account.
const maxListed = 10_000

// serveUpdates lists the account of updates: ?from=SERIAL, ?only=unanswered|twice.
func (s *Simulator) serveUpdates(c *gin.Context) {
	from, _ := strconv.ParseInt(c.Query("from"), 10, 64) // not a number: from the start
	only := c.Query("only")
	list := []Record{}
	s.mu.Lock()
	for serial := max(from, s.account.oldest); serial <= s.account.serial && len(list) < maxListed; serial++ {
		r := s.account.records[serial]
		switch {
		case r == nil,
			only == "unanswered" && !r.isUnanswered(),
			only == "twice" && len(r.Answered) < 2:
		default:
			list = append(list, *r)
		}
	}
	s.mu.Unlock() // a reader that is slow delays no other request
	c.JSON(http.StatusOK, list)
}

// servePolls lists the account of polls: ?from=NUMBER.
func (s *Simulator) servePolls(c *gin.Context) {
	from, _ := strconv.ParseInt(c.Query("from"), 10, 64) // not a number: from the start
	list := []PollRecord{}
	s.mu.Lock()
	for _, p := range s.account.polls {
		if p.Number >= from && len(list) < maxListed {
			list = append(list, *p)
		}
	}
	s.mu.Unlock() // a reader that is slow delays no other request
	c.JSON(http.StatusOK, list)
}

// serveStrays lists the messages that answer no update: ?from=NUMBER.
func (s *Simulator) serveStrays(c *gin.Context) {
	from, _ := strconv.ParseInt(c.Query("from"), 10, 64) // not a number: from the start
	list := []Stray{}
	s.mu.Lock()
	for _, m := range s.account.strays {
		if m.Number >= from {
			list = append(list, m)
		}
	}
	s.mu.Unlock() // a reader that is slow delays no other request
	c.JSON(http.StatusOK, list)
}

// accountCollector makes metrics of the account when scraped.
type accountCollector struct{ s *Simulator }

func descUpdates() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_updates", "Updates by what has become of them so far.", []string{"state"}, nil)
}

func descPolls() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_polls_total", "Polls that reached the queue.", nil, nil)
}

func descOverlaps() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_poll_overlaps_total", "Polls begun while another poller's was under way.", nil, nil)
}

func descConflicts() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_conflicts_total", "Polls ended with 409.", nil, nil)
}

func descChanges() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_poller_changes_total", "Changes of poller.", nil, nil)
}

func descUnpolled() *prometheus.Desc {
	return prometheus.NewDesc("habot_simulator_longest_unpolled_seconds", "The longest time without a poll under way.", nil, nil)
}

// Describe implements prometheus.Collector.
func (accountCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUpdates(), descPolls(), descOverlaps(), descConflicts(), descChanges(), descUnpolled()} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (a accountCollector) Collect(ch chan<- prometheus.Metric) {
	a.s.mu.Lock()
	r := a.s.account.sum(time.Now())
	a.s.mu.Unlock()
	if a.s.cfg.AwaitBot && r.Polls == 0 {
		return
	}
	for state, n := range map[string]int64{
		"sent": r.Sent, "delivered": r.Delivered, "confirmed": r.Confirmed, "answered": r.Answered, "answered_twice": r.AnsweredTwice,
		"lost": r.Lost, "dropped": r.Dropped, "unanswered": r.Unanswered, "out_of_order": r.OutOfOrder,
	} {
		ch <- prometheus.MustNewConstMetric(descUpdates(), prometheus.GaugeValue, float64(n), state)
	}
	for desc, n := range map[*prometheus.Desc]int64{
		descPolls(): r.Polls, descOverlaps(): r.Overlaps, descConflicts(): r.Conflicts, descChanges(): r.PollerChanges,
	} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n))
	}
	ch <- prometheus.MustNewConstMetric(descUnpolled(), prometheus.GaugeValue, r.LongestUnpolledSeconds)
}
