package gateway

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"habot/app/botapi"
	"habot/app/peer"
	"habot/app/turns"
	"habot/app/update"
)

// GATEWAY.md states the bounds as they are.
func TestTheDocumentStatesTheBounds(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("GATEWAY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(raw), "\n## Bounds\n")
	text, _, _ = strings.Cut(text, "\n## ")
	rows := []struct {
		what  string
		bound any
	}{
		{"copies that are remembered", turns.MaxCopies},
		{"updates that a copy has in hand", update.MaxBatch},
		{"updates that are kept to be given again; of more the oldest go", turns.MaxReplay},
		{"the same, in bytes; a larger update is not kept", fmt.Sprintf("%d MiB", turns.MaxReplayBytes>>20)},
		{"connections, all together", maxConnections},
		{"connections from one address", maxPerAddress},
		{"headers of a request", fmt.Sprintf("%d KiB", maxHeaders>>10)},
		{"parameters of a request, files aside", fmt.Sprintf("%d MiB", botapi.MaxParameters>>20)},
		{"`allowed_updates` of a copy; a longer list changes nothing", fmt.Sprintf("%d KiB", botapi.MaxAllowed>>10)},
		{"a compressed body in which a sign is looked for", fmt.Sprintf("%d KiB", maxBuffered>>10)},
		{"uploads at a time, and downloads at a time", maxFast},
		{"of them one that is slow makes way after", fmt.Sprintf("%.0f s", fastFor.Seconds())},
		{"uploads, and downloads, slow ones included", maxTransfers},
		{"polls that a replica passes on to the primary at a time", peer.MaxPolls},
		{"polls of the active copy beside these", peer.MaxActivePolls},
		{"uploads that a replica passes on to the primary at a time", peer.MaxUploads},
		{"until an upload that waits to be passed on is refused", fmt.Sprintf("%.0f s", uploadWait.Seconds())},
		{"requests with a wrong token that wait at a time; more are answered with 429 at once", maxRefusals},
		{"until the headers of a request are there", fmt.Sprintf("%.0f s", headerBound.Seconds())},
		{"until the next bytes of a body are there, or the next of an answer are taken", fmt.Sprintf("%.0f s", stallBound.Seconds())},
		{"until Telegram answers, after the last byte of a call", fmt.Sprintf("%.0f s", answerBound.Seconds())},
		{"until a connection is closed that is not used", fmt.Sprintf("%.0f s", idleBound.Seconds())},
		{"addresses that a replica looks at every five seconds", maxProbed},
	}
	for _, row := range rows {
		if want := fmt.Sprintf("| %s | %v |", row.what, row.bound); !strings.Contains(text, want) {
			t.Errorf("it does not state %q", want)
		}
	}
	if n := strings.Count(text, "\n| ") - 1; n != len(rows) { // with the line that names the columns
		t.Errorf("it states %d bounds, of which %d are known here", n, len(rows))
	}
}

// The runbook quotes what people read when no copy takes updates.
func TestTheRunbookQuotesWhatIsShown(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../prometheus/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	stuck, _, _ := strings.Cut(Snapshot{Active: "NAME", InHand: update.MaxBatch, Pending: update.MaxBatch, LastConfirmed: long}.trouble(long), " for ")
	for _, shown := range []string{Snapshot{}.Lines()[0], Snapshot{}.trouble(long), stuck} {
		if shown == "" || !strings.Contains(string(raw), "`"+shown+"`") {
			t.Errorf("it does not quote %q", shown)
		}
	}
}
