package simulator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// sendsFile uploads bytes as a bot does.
func (r *rig) sendsFile(who, kind, caption string, body []byte, attached bool) reply {
	r.t.Helper()
	var parts bytes.Buffer
	w := multipart.NewWriter(&parts)
	part := kind
	fields := map[string]string{"chat_id": "1001", "caption": caption}
	if attached {
		part, fields[kind] = "somewhere", "attach://somewhere"
	}
	for name, value := range fields {
		if err := w.WriteField(name, value); err != nil {
			r.t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile(part, "a file")
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.Write(body); err != nil {
		r.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.base+"/bot"+testToken+"/send"+kind, &parts)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("User-Agent", "habot/1 ("+who+")")
	a, err := r.do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// written is the file of the only update, as getUpdates shows it.
func (r *rig) written(kind string) (id string, size int64) {
	r.t.Helper()
	var updates []struct {
		Message struct {
			Document json.RawMessage   `json:"document"`
			Photo    []json.RawMessage `json:"photo"`
		} `json:"message"`
	}
	if err := json.Unmarshal(r.call("A", "getUpdates").Result, &updates); err != nil || len(updates) != 1 {
		r.t.Fatalf("%d updates: %v", len(updates), err)
	}
	raw := updates[0].Message.Document
	if kind == filePhoto {
		raw = updates[0].Message.Photo[0]
	}
	var file struct {
		ID   string `json:"file_id"`
		Size int64  `json:"file_size"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		r.t.Fatal(err)
	}
	return file.ID, file.Size
}

// download fetches a file by its id.
func (r *rig) download(token, id string) (int, []byte) {
	r.t.Helper()
	var file struct {
		Path string `json:"file_path"`
	}
	if err := json.Unmarshal(r.call("A", "getFile", "file_id", id).Result, &file); err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.base+"/file/bot"+token+"/"+file.Path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, body
}

// A file that a user writes is downloaded as it is, and answered by the same bytes alone.
func TestFileIsAnsweredByItsBytes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{fileDocument, filePhoto} {
		for _, attached := range []bool{false, true} {
			r := newRig(t)
			r.WriteFile(1001, kind, 100_000)
			id, size := r.written(kind)
			code, body := r.download(testToken, id)
			if code != http.StatusOK || size != 100_000 || int64(len(body)) != size {
				t.Fatalf("%s: %d, %d bytes of %d", kind, code, len(body), size)
			}
			if _, again := r.download(testToken, id); !bytes.Equal(body, again) {
				t.Error("the second download has other bytes")
			}
			spoilt := bytes.Clone(body)
			spoilt[50_000]++
			r.sendsFile("A", kind, "", spoilt, attached).expect(t, http.StatusOK, "")
			if report := r.Report(); report.Answered != 0 || report.StrayMessages != 1 {
				t.Errorf("one wrong byte: %+v", report)
			}
			a := r.sendsFile("A", kind, "a name", body, attached)
			a.expect(t, http.StatusOK, "")
			if !strings.Contains(string(a.Result), `"caption":"a name"`) || !strings.Contains(string(a.Result), `"`+kind+`":`) {
				t.Errorf("%s", a.Result)
			}
			if report := r.Report(); report.Answered != 1 || report.StrayMessages != 1 {
				t.Errorf("%+v", report)
			}
			// The same by its id is an answer, too: the second one.
			r.call("A", "send"+kind, "chat_id", "1001", kind, id).expect(t, http.StatusOK, "")
			if report := r.Report(); report.AnsweredTwice != 1 {
				t.Errorf("%+v", report)
			}
		}
	}
}

func TestTwoFilesHaveOtherBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sums := map[string]bool{}
	for range 3 {
		r.WriteFile(1001, fileDocument, 10)
	}
	for id := range r.files {
		_, body := r.download(testToken, id)
		sum := sha256.Sum256(body)
		sums[hex.EncodeToString(sum[:])] = true
	}
	if len(sums) != 3 {
		t.Errorf("%d of 3 files differ", len(sums))
	}
}

func TestFilesOfTheRealServersSizes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.WriteFile(1001, fileDocument, maxDownload)
	id, _ := r.written(fileDocument)
	if code, body := r.download(testToken, id); code != http.StatusOK || len(body) != maxDownload {
		t.Errorf("%d, %d bytes", code, len(body))
	}
	for kind, most := range map[string]int{fileDocument: maxUpload, filePhoto: maxPhoto} {
		r.sendsFile("A", kind, "", make([]byte, most), false).expect(t, http.StatusOK, "")
		r.sendsFile("A", kind, "", make([]byte, most+1), false).expect(t, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	}
	r.WriteFile(1001, fileDocument, maxDownload+1)
	for id, f := range r.files {
		if f.size == maxDownload+1 {
			r.call("A", "getFile", "file_id", id).expect(t, http.StatusBadRequest, "Bad Request: file is too big")
		}
	}
}

func TestFilesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.WriteFile(1001, fileDocument, 10)
	id, _ := r.written(fileDocument)
	for want, a := range map[string]reply{
		"file_id is empty": r.call("A", "getFile"),
		"wrong file_id or the file is temporarily unavailable": r.call("A", "getFile", "file_id", "none"),
		"there is no document in the request":                  r.call("A", "sendDocument", "chat_id", "1001"),
		"wrong remote file identifier specified":               r.call("A", "sendPhoto", "chat_id", "1001", "photo", id),
		"file must be non-empty":                               r.sendsFile("A", fileDocument, "", nil, false),
		"chat_id is empty":                                     r.call("A", "sendDocument", "document", id),
	} {
		a.expect(t, http.StatusBadRequest, "Bad Request: "+want)
	}
	a := r.sendsFile("A", fileDocument, "", []byte("x"), false)
	var message struct {
		Document struct {
			ID string `json:"file_id"`
		} `json:"document"`
	}
	if err := json.Unmarshal(a.Result, &message); err != nil {
		t.Fatal(err)
	}
	r.call("A", "getFile", "file_id", message.Document.ID).expect(t, http.StatusBadRequest, "Bad Request: the simulator does not keep what the bot has sent")
	if code, _ := r.download("123456:another", id); code != http.StatusUnauthorized {
		t.Errorf("another token: %d", code)
	}
	for _, path := range []string{"/documents/none", "/photos/" + id, "/../documents/" + id + "x"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/file/bot"+testToken+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := r.do(req)
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, http.StatusNotFound, "Not Found")
	}
}

func TestOldFilesAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range maxFiles + 5 {
		r.keep(r.newFile(fileDocument))
	}
	if len(r.files) != maxFiles || len(r.fileIDs) != maxFiles {
		t.Errorf("%d files, %d ids", len(r.files), len(r.fileIDs))
	}
}

func TestControlOfFilesSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, f := range []File{{1001, "sticker", 1}, {1001, fileDocument, 0}, {1001, filePhoto, maxUpload + 1}} {
		if (Control{Files: []File{f}}).check() == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
	if err := (Control{Files: []File{{1001, filePhoto, 1}}}).check(); err != nil {
		t.Error(err)
	}
	if (Control{Files: make([]File, maxWritten+1)}).check() == nil {
		t.Error("too many are accepted")
	}
}

// A poll that waits gets a file that is written meanwhile.
func TestFileWakesThePoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		poll := r.background("A", "getUpdates", "timeout", "10")
		r.Apply(Control{Files: []File{{1002, fileDocument, 5}}})
		if ids := updateIDs(t, <-poll); len(ids) != 1 {
			t.Errorf("%v", ids)
		}
	})
}

// What a bot writes by the clock is listed with who wrote it, the newest in full.
func TestStraysAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.call("A", "sendMessage", "chat_id", "1001", "text", "job 1")
	r.call("B", "sendMessage", "chat_id", "1002", "text", "job 2")
	list := func(query string) []Stray {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/report/strays"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var strays []Stray
		if err := json.NewDecoder(res.Body).Decode(&strays); err != nil {
			t.Fatal(err)
		}
		return strays
	}
	all := list("")
	if len(all) != 2 || all[0].Poller != "A" || all[0].Text != "job 1" || all[0].Chat != 1001 || all[1].Number != 2 || all[1].Poller != "B" {
		t.Errorf("%+v", all)
	}
	if last := list("?from=2"); len(last) != 1 || last[0].Text != "job 2" {
		t.Errorf("%+v", last)
	}
	for range maxStrays {
		r.call("A", "sendMessage", "chat_id", "1001", "text", "again")
	}
	if n := len(list("")); n > maxStrays || n < maxStrays/2 {
		t.Errorf("%d are listed", n)
	}
}
