package simulator

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/page"
	"habot/app/page/live"
	"habot/app/simulator/playground"
)

// Bounds of the page.
const (
	frameEvery  = 100 * time.Millisecond
	maxWatchers = 50
	maxBehind   = 50 // frames: five seconds
	// firstPerson is the chat of the first of the page's people: above those of all simulated users.
	firstPerson = 9001
)

// people are those that the page's visitor may write as. The last is a simulated user, who writes by itself as well.
func people() []playground.Person {
	var all []playground.Person
	for i, name := range []string{"Ada", "Blaise", "Chen", "Dorothy"} {
		all = append(all, playground.Person{Chat: firstPerson + int64(i), Name: name})
	}
	return append(all, playground.Person{Chat: FirstChat, Name: "User 1001", Simulated: true})
}

// shownChats are the chats whose messages the page shows: those of people; the simulated user is there only if users are.
func shownChats(users int) []int64 {
	var all []int64
	for _, p := range people() {
		if !p.Simulated || users > 0 {
			all = append(all, p.Chat)
		}
	}
	return all
}

// firstName is how the user with an id is called.
func firstName(id int64) string {
	for _, p := range people() {
		if p.Chat == id {
			return p.Name
		}
	}
	return fmt.Sprintf("User %d", id)
}

// pageRoutes are those of the page. Its files can be read by any client that can open it; its events are not for other pages.
func (s *Simulator) pageRoutes(r gin.IRoutes) {
	own, parts := playground.Files(), page.Parts()
	r.GET("/", func(c *gin.Context) {
		if !isPlain(c.Request.Host) { // its events and buttons would be refused
			c.String(http.StatusForbidden, "Open this page by an address, by localhost or by a name without a dot: another name may be one that a stranger had lead here.\n")
			return
		}
		live.ServeFile(c.Writer, "index.html", own)
	})
	r.GET("/page/:file", func(c *gin.Context) { live.ServeFile(c.Writer, c.Param("file"), own, parts) })
	r.GET("/events", func(c *gin.Context) {
		if !isPlain(c.Request.Host) { // DNS rebinding
			http.Error(c.Writer, "the Host must be an address, localhost or a name without a dot", http.StatusForbidden)
			return
		}
		s.watching.ServeHTTP(c.Writer, c.Request)
	})
}

// frames are what the page's watchers get.
type frames struct{ *Simulator }

// Frame implements live.Source. What takes long is done without the lock: the account does not wait for those who watch.
func (s frames) Frame(since uint64) ([]byte, uint64) {
	f := s.frame(since)
	f.Run = s.run
	if f.Full {
		f.People, f.Project = people(), s.cfg.Project
		if s.cfg.Chats == 0 {
			f.People = f.People[:len(f.People)-1]
		}
	}
	return f.JSON(), f.Version
}

func (s *Simulator) frame(since uint64) playground.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expireFaults(now)
	f := s.account.model.Frame(now, since)
	r := s.account.numbers(now)
	f.Tally = playground.Tally{
		Sent: r.Sent, Answered: r.Answered, Waiting: r.Unanswered, AnsweredTwice: r.AnsweredTwice, Lost: r.Lost, Dropped: r.Dropped,
		Conflicts: r.Conflicts, Changes: r.PollerChanges, LongestUnpolled: r.LongestUnpolledSeconds,
	}
	f.Load = playground.Load{Rate: s.rate, Usual: s.rate}
	if now.Before(s.loadUntil) {
		f.Load.Rate, f.Load.Until = s.load.Rate, page.At(s.loadUntil)
	}
	return f
}
