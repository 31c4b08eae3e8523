package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"habot/app/botapi"
)

// Bounds of large bodies in one direction.
const (
	// maxFast are under way at a time and have the machine to themselves; maxTransfers all together.
	maxFast      = 2
	maxTransfers = 64
	// fastFor is how long one may keep others waiting: one that takes longer is slow, and takes little.
	fastFor = 10 * time.Second
	// maxUpload is more than Telegram takes of a bot.
	maxUpload = 64 << 20
	pieceSize = 32 << 10 // of a body in memory
)

// transfers bounds large bodies: two at a time, of which one that is slow does not delay the others.
type transfers struct{ all, fast chan struct{} }

func newTransfers() *transfers {
	return &transfers{all: make(chan struct{}, maxTransfers), fast: make(chan struct{}, maxFast)}
}

// take waits for its turn, and returns what ends it; nil if one of the channels was closed before.
func (t *transfers) take(gone, over <-chan struct{}) (release func()) {
	if !enter(t.all, gone, over) {
		return nil
	}
	if !enter(t.fast, gone, over) {
		<-t.all
		return nil
	}
	makeWay := sync.OnceFunc(func() { <-t.fast })
	slow := time.AfterFunc(fastFor, makeWay)
	return func() {
		slow.Stop()
		makeWay()
		<-t.all
	}
}

func enter(slots chan<- struct{}, gone, over <-chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-gone:
	case <-over:
	}
	return false
}

// file hands on a file that a bot may download. It conflicts with no other replica, so that each does it itself.
func (g *Gateway) file(w http.ResponseWriter, q request) {
	release := g.downloads.take(q.http.Context().Done(), nil)
	if release == nil {
		return // the client is gone
	}
	defer release()
	path := q.path.File
	if g.cfg.Token != g.cfg.BotToken { // a path of a local Bot API server has the token in it
		path = strings.ReplaceAll(path, g.cfg.Token, g.cfg.BotToken)
	}
	resp, err := g.cfg.Telegram.File(q.http.Context(), q.path.Test, path, q.http.Header.Get("Range"))
	if err != nil {
		write(w, botapi.Later(http.StatusBadGateway, textUnsent, 1))
		return
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is of no use
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
	case !isAnswer(resp):
		write(w, botapi.Failure(http.StatusBadGateway, textAnswer))
		return
	default:
		g.answer(w, resp)
		return
	}
	for _, name := range []string{"Content-Type", "Content-Range", "Accept-Ranges", "Last-Modified", "Etag"} {
		if value := resp.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	stream(w, resp, resp.Body, false)
}

// stream hands a body on piece by piece. A client that does not read it is cut off after stallBound.
func stream(w http.ResponseWriter, resp *http.Response, body io.Reader, changed bool) {
	control := http.NewResponseController(w)
	if resp.ContentLength >= 0 && !changed {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	size := pieceSize
	if resp.ContentLength >= 0 {
		size = int(min(resp.ContentLength+1, pieceSize)) // most answers are small; one more byte is for the end
	}
	piece := make([]byte, size)
	for {
		n, err := body.Read(piece)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(stallBound)) // what cannot be bounded is not
			if _, err := w.Write(piece[:n]); err != nil {
				return // the client is gone
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = control.Flush()
			_ = control.SetWriteDeadline(time.Time{})
			return
		case err != nil:
			panic(http.ErrAbortHandler) // what is cut short must not look whole
		}
	}
}

// drain reads a body that is of no use: frameworks do not look at an answer before they have sent all.
func (q *request) drain() {
	if q.rest != nil {
		_, _ = io.CopyN(io.Discard, q.rest, maxUpload) // it may end before
	}
}

// replaceSize is how much a replacer reads at a time: only answers pass through, and most are small.
const replaceSize = 4 << 10

// replacer replaces a text in what streams by.
type replacer struct {
	r        io.Reader
	old, new []byte
	piece    []byte
	ready    []byte // replaced
	left     []byte // may be the start of old
	err      error
}

func newReplacer(r io.Reader, old, with string) *replacer {
	return &replacer{r: r, piece: make([]byte, replaceSize), old: []byte(old), new: []byte(with)}
}

// Read implements io.Reader.
func (p *replacer) Read(to []byte) (int, error) {
	for len(p.ready) == 0 && p.err == nil {
		var n int
		n, p.err = p.r.Read(p.piece)
		all := append(p.left, p.piece[:n]...)
		for {
			i := bytes.Index(all, p.old)
			if i < 0 {
				break
			}
			p.ready = append(append(p.ready, all[:i]...), p.new...)
			all = all[i+len(p.old):]
		}
		keep := 0
		if p.err == nil {
			keep = min(len(all), len(p.old)-1)
		}
		p.ready = append(p.ready, all[:len(all)-keep]...)
		p.left = bytes.Clone(all[len(all)-keep:])
	}
	if len(p.ready) == 0 {
		return 0, p.err
	}
	n := copy(to, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}
