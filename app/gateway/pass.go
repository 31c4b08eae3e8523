package gateway

import (
	"errors"
	"net/http"
	"time"

	"habot/app/botapi"
	"habot/app/turns"
)

// How long a request waits for a primary at least, and one that is no poll at most: frameworks give a send 5 s.
const (
	minWait  = time.Second
	callWait = 4 * time.Second
)

// route has the primary serve a request: this replica, if it is primary. Otherwise it waits for one, at most for wait. serve
// returns errOver if nothing was sent and nothing was answered: then another primary is waited for.
func (g *Gateway) route(w http.ResponseWriter, q request, wait time.Duration, serve func(s *session) error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		s, changed := g.session()
		if s != nil {
			if err := serve(s); !errors.Is(err, errOver) {
				return
			}
		}
		select {
		case <-changed:
		case <-over.C:
			write(w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
			return
		case <-q.http.Context().Done():
			return
		}
	}
}

// report has the primary know of something that this replica has seen of copies.
func (g *Gateway) report(in turns.Input) { g.tell(in) }
