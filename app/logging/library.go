package logging

import (
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// libraryEvery is between two lines of the standard library.
const libraryEvery = 10 * time.Second

// library has the log of the standard library in ours.
type library struct {
	log   *slog.Logger
	lines *Quota
}

// Library is where the standard library's own log goes: log.SetOutput takes it. net/http writes there what a server has sent beside
// its answers, a line for each. Here it is a line at level debug, one in ten seconds, without what it quotes: that may be a message of a user.
func Library(log *slog.Logger) io.Writer { return library{log, NewQuota(1, libraryEvery)} }

var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"?`)

// Write implements io.Writer.
func (l library) Write(line []byte) (int, error) {
	if omitted, ok := l.lines.Take(time.Now()); ok {
		l.log.Debug("a library reports", "detail", strings.TrimSpace(quoted.ReplaceAllLiteralString(string(line), `"..."`)), "omitted", omitted)
	}
	return len(line), nil
}
