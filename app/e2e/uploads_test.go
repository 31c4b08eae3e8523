//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"habot/app/config"
)

const (
	uploadSize = 50 << 20 // the most that Telegram takes
	uploads    = 20
	uploaders  = 4 // at a time
	mostMiB    = 40.0
)

// uploaded is what became of an upload: an answer of the Bot API, or an error of its connection.
type uploaded struct {
	OK          bool
	Description string
	status      int
	err         error
}

// upload sends a document through a gateway, as most frameworks do: in chunks.
func upload(t *testing.T, gateway string) (u uploaded) {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		err := form.WriteField("chat_id", "1001")
		if err == nil {
			var part io.Writer
			if part, err = form.CreateFormFile("document", "file.bin"); err == nil {
				piece := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
				for sent := 0; err == nil && sent < uploadSize; sent += len(piece) {
					_, err = part.Write(piece)
				}
			}
		}
		_ = w.CloseWithError(errors.Join(err, form.Close()))
	}()
	defer func() { _ = r.Close() }() // the writer ends, too
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gateway+"/bot"+config.DemoToken+"/sendDocument", r)
	if err != nil {
		return uploaded{err: err}
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return uploaded{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	u.status = resp.StatusCode
	u.err = json.NewDecoder(resp.Body).Decode(&u)
	return u
}

// uploadAll makes uploads at four at a time, each through the gateway that it is given, and returns what became of each.
func uploadAll(t *testing.T, gateways ...string) (all []uploaded) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan string)
	for range uploaders {
		workers.Go(func() {
			for gateway := range next {
				u := upload(t, gateway)
				mu.Lock()
				all = append(all, u)
				mu.Unlock()
			}
		})
	}
	for i := range uploads {
		next <- gateways[i%len(gateways)]
	}
	close(next)
	workers.Wait()
	return all
}

// mostResidentMiB is the most that a process has had in memory.
func mostResidentMiB(t *testing.T, m *packed) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.process().Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// TestUploads sends twenty files of 50 MB at four at a time through the gateways of three replicas, first undisturbed, through the primary
// and a standby: the primary stays. Then through a standby, with kill -9 of the primary in the middle: what was cut off is refused with an
// answer of the Bot API, and the uploads after that pass. No replica has had 40 MiB in memory.
//
//	go test -tags e2e,nomsgpack,stdjson -count=1 -v ./app/e2e -run 'TestUploads$'
func TestUploads(t *testing.T) {
	p := newPack(t, size)
	p.env = []string{"BACKEND=gateway"}
	gateways := map[*packed]string{}
	for i, addr := range freePorts(t, size) {
		gateways[p.members[i]] = addr
		p.members[i].own = []string{"GATEWAY_ADDR=" + addr}
	}
	p.start()
	primary, standbys := p.settled()
	judge := stack{telegram: p.telegram}
	judge.setRate(t, 0)
	before := judge.report(t).PollerChanges
	began := time.Now()
	for _, u := range uploadAll(t, gateways[primary], gateways[standbys[0]]) {
		if u.err != nil || !u.OK {
			t.Errorf("%+v", u)
		}
	}
	t.Logf("FIGURE %d uploads of 50 MB at %d at a time: %v", uploads, uploaders, time.Since(began).Round(100*time.Millisecond))
	if r := judge.report(t); r.PollerChanges != before || r.Poller != primary.name {
		t.Errorf("the primary changed: %+v", r)
	}
	resident := func(what string, all ...*packed) {
		for _, m := range all {
			mib := mostResidentMiB(t, m)
			t.Logf("FIGURE %s, %s: at most %.1f MiB resident", what, m.name, mib)
			if mib >= mostMiB {
				t.Errorf("%s: %s had %.1f MiB", what, m.name, mib)
			}
		}
	}
	resident("uploads", p.members...)

	killed := make(chan struct{})
	kill := time.AfterFunc(time.Since(began)/3, func() { // in the middle of some
		defer close(killed)
		if err := primary.process().Kill(); err != nil {
			t.Error(err)
		}
	})
	defer kill.Stop()
	cut := 0
	for _, u := range uploadAll(t, gateways[standbys[0]]) {
		switch {
		case u.err != nil:
			t.Errorf("through a replica that lives, not answered: %v", u.err)
		case u.OK:
		case u.status == http.StatusBadGateway && (strings.Contains(u.Description, "may have been carried out") || strings.Contains(u.Description, "nothing was sent")):
			cut++
		default:
			t.Errorf("%+v", u)
		}
	}
	<-killed
	if cut == 0 || cut > uploaders {
		t.Errorf("%d uploads were cut off by the end of the primary", cut)
	}
	t.Logf("FIGURE %d of %d uploads were refused when the primary was killed", cut, uploads)
	resident("uploads and kill -9 of the primary", standbys...)
	if u := upload(t, gateways[standbys[1]]); u.err != nil || !u.OK {
		t.Errorf("afterwards: %+v", u)
	}
}
