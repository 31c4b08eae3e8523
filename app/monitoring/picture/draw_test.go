package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

const kept = "../../../grafana/failover"

func recorded(t *testing.T) Recording {
	t.Helper()
	raw, err := os.ReadFile(kept + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r Recording
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The picture in the repository is drawn from the recording beside it.
func TestThePictureIsThatOfTheRecording(t *testing.T) {
	want, err := os.ReadFile(kept + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	if Draw(recorded(t)) != string(want) {
		t.Error("it is not: go run ./app/monitoring/picture -replay -out grafana/failover.svg")
	}
}

// The recording is of a failover as the README promises it: one poller at a time, and nothing lost.
func TestTheRecordingIsOfAFailover(t *testing.T) {
	r := recorded(t)
	if r.Lost != 0 || r.Unpolled <= 0 || r.From == r.To || r.Reason == "" {
		t.Errorf("recorded is %+v", r)
	}
	doc, err := os.ReadFile("../../../grafana/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if took := fmt.Sprintf("%.2f s", r.Unpolled); !strings.Contains(string(doc), took) {
		t.Errorf("the document does not say that no replica polled for %s", took)
	}
	for _, p := range r.Polls {
		if p.Replica == r.From && p.End > 0 || p.Replica == r.To && p.Start < r.Unpolled-0.001 {
			t.Errorf("a poll of %s from %v s to %v s", p.Replica, p.Start, p.End)
		}
	}
	for _, u := range r.Updates {
		if len(u.Answered) == 0 {
			t.Errorf("what was written at %v s is not answered", u.Sent)
		}
	}
}

// Names are other people's: whatever they are, the picture is well-formed.
func TestNamesCannotBreakThePicture(t *testing.T) {
	svg := Draw(Recording{From: `<a href="x">`, To: "b&c", End: 1, Roles: []Span{{Replica: `"<b>`, Role: "primary", End: 1}}})
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}
