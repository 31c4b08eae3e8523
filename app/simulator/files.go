package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/simulator/playground"
)

// Bounds of files, in bytes: of what getFile gives, of a photo and of anything else that a bot sends.
const (
	maxDownload = 20 << 20
	maxPhoto    = 10 << 20
	maxUpload   = 50 << 20
	// maxFiles bounds those that are known: of more the oldest are forgotten.
	maxFiles = 10_000
)

// Kinds of files, as messages name them.
const (
	fileDocument = "document"
	filePhoto    = "photo"
)

// file is one that a user has written or the bot has sent. Of the bot's no more is kept than this; a user's bytes
// are made from its number each time they are asked for.
type file struct {
	id, kind     string
	number, size int64
	sum          string // SHA-256 in hex
	users        bool   // a user has written it; the bot cannot have back what it has sent
}

// content are a user's bytes: as many as are asked for, and the same for each number.
func content(number, size int64) io.Reader {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(number)) //nolint:gosec // any number will do
	return io.LimitReader(rand.NewChaCha8(seed), size)
}

func sumOf(r io.Reader) (sum string, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// expectedOf is the text that stands for a file in the account: a message with the same bytes answers it.
func expectedOf(sum string) string { return "file " + sum }

// keep remembers a file.
func (s *Simulator) keep(f file) {
	if len(s.fileIDs) >= maxFiles {
		delete(s.files, s.fileIDs[0])
		s.fileIDs = s.fileIDs[1:]
	}
	s.files[f.id], s.fileIDs = f, append(s.fileIDs, f.id)
}

// newFile is a file with a number and an id of its own.
func (s *Simulator) newFile(kind string) file {
	s.fileNumber++
	return file{id: fmt.Sprintf("%s-%d-%s", kind, s.fileNumber, s.run), kind: kind, number: s.fileNumber}
}

// object is the file as messages show it; a photo has one size.
func (f file) object() any {
	o := map[string]any{"file_id": f.id, "file_unique_id": "unique-" + f.id, "file_size": f.size}
	if f.kind == filePhoto {
		o["width"], o["height"] = 640, 480
		return []any{o}
	}
	o["file_name"], o["mime_type"] = "file.bin", "application/octet-stream"
	return o
}

// WriteFile has a user send a document or a photo of a size in bytes. Its answer is a message with the same bytes.
func (s *Simulator) WriteFile(chat int64, kind string, size int64) {
	s.mu.Lock()
	f := s.newFile(kind)
	s.mu.Unlock()
	f.users = true
	f.sum, f.size, _ = sumOf(content(f.number, size)) // a generator of bytes does not fail
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(f)
	s.writeMessage(chat, 0, map[string]any{kind: f.object()}, expectedOf(f.sum), expectedOf(f.sum))
}

func (s *Simulator) getFile(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.files[p["file_id"]]
	switch {
	case p["file_id"] == "":
		return badRequest("file_id is empty")
	case !known:
		return badRequest("wrong file_id or the file is temporarily unavailable")
	case f.size > maxDownload:
		return badRequest("file is too big")
	case !f.users:
		return badRequest("the simulator does not keep what the bot has sent")
	}
	return answer{OK: true, Result: map[string]any{
		"file_id": f.id, "file_unique_id": "unique-" + f.id, "file_size": f.size, "file_path": f.kind + "s/" + f.id,
	}}
}

// serveFile is a download.
func (s *Simulator) serveFile(c *gin.Context) {
	if _, ok := s.inject(c, "file", ""); !ok {
		return
	}
	if c.Param("token") != s.cfg.Token && !s.cfg.AnyToken {
		s.reply(c, fail(http.StatusUnauthorized, "Unauthorized"))
		return
	}
	s.mu.Lock()
	f, known := s.files[path.Base(c.Param("path"))]
	s.mu.Unlock()
	if !known || !f.users || c.Param("path") != "/"+f.kind+"s/"+f.id {
		s.reply(c, fail(http.StatusNotFound, "Not Found"))
		return
	}
	c.DataFromReader(http.StatusOK, f.size, "application/octet-stream", content(f.number, f.size), nil)
}

// sendFile is sendDocument and sendPhoto: with bytes of its own, or with a file's id. A file's name and its caption are
// shown as they are.
func (s *Simulator) sendFile(kind string) method {
	most := map[string]int64{fileDocument: maxUpload, filePhoto: maxPhoto}[kind]
	return func(caller playground.Who, p params, files uploads) answer {
		s.mu.Lock()
		defer s.mu.Unlock()
		f, known := s.files[p[kind]]
		up, uploaded := files[kind]
		if part, attached := strings.CutPrefix(p[kind], "attach://"); attached {
			up, uploaded = files[part]
		}
		switch {
		case uploaded && up.size == 0:
			return badRequest("file must be non-empty")
		case uploaded && up.size > most:
			return fail(http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		case uploaded:
			f = s.newFile(kind)
			f.size, f.sum = up.size, up.sum
		case p[kind] == "":
			return badRequest("there is no " + kind + " in the request")
		case !known || f.kind != kind:
			return badRequest("wrong remote file identifier specified")
		}
		to, refused := s.find(p["chat_id"])
		if refused != nil {
			return *refused
		}
		topic, refused := to.topic(p)
		if refused != nil {
			return *refused
		}
		now := time.Now()
		if refused := s.limit.takes(to, now); refused != nil {
			return *refused
		}
		if uploaded {
			s.keep(f)
		}
		text := expectedOf(f.sum)
		if p["caption"] != "" {
			text = p["caption"] + ": " + text
		}
		s.account.answered(now, caller, to.id, topic, text)
		message := s.sentMessage(now, to, topic)
		message[kind] = f.object()
		if p["caption"] != "" {
			message["caption"] = p["caption"]
		}
		return answer{OK: true, Result: message}
	}
}

// sentMessage is what every message of the bot's has.
func (s *Simulator) sentMessage(now time.Time, to *chat, topic int) map[string]any {
	s.messageID++
	message := map[string]any{"message_id": s.messageID, "from": s.me(), "date": now.Unix(), "chat": to.object()}
	if topic != 0 {
		message["message_thread_id"], message["is_topic_message"] = topic, true
	}
	return message
}

// upload is a file in a request.
type upload struct {
	size int64
	sum  string
}

// uploads are a request's files, by the names of their parts.
type uploads map[string]upload

// add reads a file to its end; of one that is too large, no more than shows that.
func (u uploads) add(part *multipart.Part) error {
	sum, size, err := sumOf(io.LimitReader(part, maxUpload+1))
	if _, known := u[part.FormName()]; !known {
		u[part.FormName()] = upload{size: size, sum: sum}
	}
	return err
}
