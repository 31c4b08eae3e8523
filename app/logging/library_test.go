package logging

import (
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// net/http quotes what a server has sent beside its answers, in the log of the standard library.
func TestWhatALibraryReportsIsABoundedLineWithoutWhatItQuotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		std := log.New(Library(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))), "", 0)
		for range 5 {
			std.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=<nil>", "a \"message\" of\na user")
		}
		if got, want := out.String(), `level=DEBUG msg="a library reports" detail="Unsolicited response received on idle HTTP channel starting with \"...\"; err=<nil>" omitted=0`; !strings.HasSuffix(got, want+"\n") || strings.Count(got, "msg=") != 1 {
			t.Errorf("logged %s", got)
		}
		out.Reset()
		time.Sleep(libraryEvery)
		std.Print(`cut short: "a mess`)
		if got := out.String(); !strings.Contains(got, fmt.Sprintf(`detail=%q omitted=4`, `cut short: "..."`)) {
			t.Errorf("logged %s", got)
		}
		quiet := log.New(Library(New(&out, slog.LevelInfo, false)), "", 0)
		out.Reset()
		if quiet.Print("x"); out.Len() > 0 {
			t.Errorf("logged %s", &out)
		}
	})
}
