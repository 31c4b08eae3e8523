package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
)

// What follows is the wire of version 1.0.0: its messages, its checks, and how its server and its client looked at the version
// of the protocol. It MUST NOT follow changes of this version.

type oneClaim struct {
	Timestamp int64  `json:"timestamp_ns"`
	Replica   string `json:"replica"`
}

type oneStatus struct {
	Protocol    int           `json:"protocol"`
	Replica     string        `json:"replica"`
	Name        string        `json:"name"`
	Version     string        `json:"version"`
	Role        string        `json:"role"`
	Primary     oneClaim      `json:"primary"`
	PrimaryName string        `json:"primary_name"`
	Remaining   time.Duration `json:"remaining_ns"`
	Floor       oneClaim      `json:"floor"`
	Health      struct {
		OK     bool   `json:"ok"`
		Detail string `json:"detail,omitempty"`
	} `json:"health"`
	Lease    time.Duration `json:"lease_ns"`
	Replicas int           `json:"replicas"`
	Quorum   int           `json:"quorum"`
	Change   struct {
		Claim    oneClaim      `json:"claim"`
		Name     string        `json:"name"`
		Previous string        `json:"previous"`
		Reason   string        `json:"reason"`
		Gap      time.Duration `json:"gap_ns"`
	} `json:"change"`
}

type oneClaimRequest struct {
	From  oneStatus `json:"from"`
	Claim oneClaim  `json:"claim"`
}

type oneClaimAnswer struct {
	From      oneStatus     `json:"from"`
	Claim     oneClaim      `json:"claim"`
	Granted   bool          `json:"granted"`
	Refusal   string        `json:"refusal,omitempty"`
	Holder    oneClaim      `json:"holder"`
	Remaining time.Duration `json:"remaining_ns"`
}

type oneEndRequest struct {
	From      oneStatus `json:"from"`
	Claim     oneClaim  `json:"claim"`
	Released  bool      `json:"released"`
	Reason    string    `json:"reason,omitempty"`
	Successor string    `json:"successor,omitempty"`
}

type oneProgress struct {
	Claim    oneClaim `json:"claim"`
	Sequence uint64   `json:"sequence"`
	Handled  []int64  `json:"handled"`
}

type oneSwitchover struct {
	Successor string `json:"successor"`
}

func (c oneClaim) sound() bool {
	return c == oneClaim{} || c.Timestamp > 0 && c.Timestamp <= 1<<62 && c.Replica != "" && len(c.Replica) <= 256
}

func (s oneStatus) sound() bool {
	const day = 24 * time.Hour
	roles := []string{"joining", "looking", "candidate", "primary", "standby", "leaving"}
	reasons := []string{"", "start", "crash", "lease_lost", "shutdown", "switchover", "unhealthy", "lower_primary", "part_failed"}
	for _, text := range []string{s.Replica, s.Name, s.Version, s.PrimaryName, s.Health.Detail, s.Change.Name, s.Change.Previous} {
		if len(text) > 256 {
			return false
		}
	}
	for _, span := range []time.Duration{s.Remaining, s.Lease, s.Change.Gap} {
		if span < 0 || span > day {
			return false
		}
	}
	return s.Protocol == 1 && s.Replica != "" && slices.Contains(roles, s.Role) && slices.Contains(reasons, s.Change.Reason) &&
		s.Primary.sound() && s.Floor.sound() && s.Change.Claim.sound()
}

// readByOne is how version 1.0.0 reads a message: one value, and no field that it does not know.
func readByOne[M any](raw []byte) (m M, err error) {
	if len(raw) > 64<<10 {
		return m, errors.New("too large")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, errors.New("more than one value")
	}
	for _, s := range []any{m, statusIn(m)} {
		if s, is := s.(oneStatus); is && !s.sound() {
			return m, errors.New("out of bounds")
		}
	}
	if p, is := any(m).(oneProgress); is && (len(p.Handled) > 1000 || !p.Claim.sound()) {
		return m, errors.New("out of bounds")
	}
	return m, nil
}

// statusIn is the status in a message, nil if it has none.
func statusIn(m any) any {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Struct {
		return nil
	}
	if from := v.FieldByName("From"); from.IsValid() {
		return from.Interface()
	}
	return nil
}

// byOne reads a message by its kind.
func byOne(kind string, raw []byte) (err error) {
	switch kind {
	case requestStatus:
		_, err = readByOne[oneStatus](raw)
	case requestClaim:
		_, err = readByOne[oneClaimRequest](raw)
	case "claim answer":
		_, err = readByOne[oneClaimAnswer](raw)
	case requestEnd:
		_, err = readByOne[oneEndRequest](raw)
	case requestProgress:
		_, err = readByOne[oneProgress](raw)
	case requestSwitchover:
		_, err = readByOne[oneSwitchover](raw)
	default:
		err = errors.New("no such message")
	}
	return err
}

// one is a server of version 1.0.0.
func one(t *testing.T, requests *[]string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		refuse := func(code int, why string) {
			*requests = append(*requests, "refused: "+why)
			w.Header().Set("Connection", "close")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(encode(t, complaint{why})))
		}
		w.Header().Set("Habot-Protocol", "1")
		if theirs := r.Header.Get("Habot-Protocol"); theirs != "1" {
			refuse(http.StatusConflict, "the other replica speaks another version of the protocol: "+theirs)
			return
		}
		var kind, answer string
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/primary":
			kind, answer = requestStatus, recorded(t, "status")
		case "POST /v1/claims":
			kind, answer = requestClaim, recorded(t, "claim-answer")
		case "DELETE /v1/claims":
			kind = requestEnd
		case "POST /v1/progress":
			kind = requestProgress
		case "POST /v1/switchover":
			kind = requestSwitchover
		default:
			refuse(http.StatusNotFound, "no such path")
			return
		}
		if r.Method != http.MethodGet {
			raw, err := io.ReadAll(r.Body)
			if err == nil {
				err = byOne(kind, raw)
			}
			if err != nil {
				refuse(http.StatusBadRequest, err.Error())
				return
			}
		}
		*requests = append(*requests, kind)
		if answer == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}
}

// recorded is a message as version 1.0.0 wrote it.
func recorded(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "1.0.0", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// more is progress with all that this version adds.
func more() election.Progress {
	p := progress()
	p.Settled = []election.Settled{{Claim: p.Claim, Sequence: 7}}
	return p
}

// A replica of version 1.0.0 refuses messages with fields that it does not know. What was handled it learns all the same.
func TestReplicaOfVersionOneTakesWhatIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var requests []string
		c, log := impostor(t, one(t, &requests))
		if s, err := c.Status(t.Context(), "b:7175"); err != nil || s.Name != "habot-bot-2" {
			t.Errorf("%+v, %v", s, err)
		}
		if a, err := c.Claim(t.Context(), "b:7175", claimRequest("a")); err != nil || a.Refusal != election.RefusedHeld {
			t.Errorf("%+v, %v", a, err)
		}
		if err := c.End(t.Context(), "b:7175", endRequest("a")); err != nil {
			t.Error(err)
		}
		if _, err := c.Progress(t.Context(), "b:7175", more()); err != nil {
			t.Error(err)
		}
		if err := c.Switchover(t.Context(), "b:7175", "x"); err != nil {
			t.Error(err)
		}
		if want := []string{requestStatus, requestClaim, requestEnd, requestProgress, requestSwitchover}; !slices.Equal(requests, want) {
			t.Errorf("it took %q, want %q", requests, want)
		}
		for _, r := range []string{requestClaim, requestProgress} {
			if n := testutil.ToFloat64(c.refused.WithLabelValues(r)); n != 0 {
				t.Errorf("%v of %s were refused", n, r)
			}
		}
		if n := log.count(0, ""); n != 0 || len(c.IncompatiblePeers(time.Minute)) != 0 {
			t.Errorf("%d lines, incompatible are %q", n, c.IncompatiblePeers(time.Minute))
		}
		if _, err := c.Leave(t.Context(), "b:7175", leaveRequest("a")); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("got %v", err)
		}
	})
}

// What version 1.0.0 wrote is read, and written again it is the same.
func TestMessagesOfVersionOneAreReadAndWritten(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(raw string) (any, error){
		"status":                reread(checkStatus),
		"status-joining":        reread(checkStatus),
		"claim-request":         reread(checkClaimRequest),
		"claim-answer":          reread(checkClaimAnswer),
		"claim-answer-granted":  reread(checkClaimAnswer),
		"end-request":           reread(checkEndRequest),
		"end-request-withdrawn": reread(checkEndRequest),
		"progress":              reread(checkProgress),
		"switchover":            reread(checkSwitchover),
		"complaint":             reread(checkComplaint),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			was := recorded(t, name)
			m, err := again(was)
			if err != nil {
				t.Fatal(err)
			}
			var before, after any
			if err := errors.Join(json.Unmarshal([]byte(was), &before), json.Unmarshal([]byte(encode(t, written(m, 1))), &after)); err != nil {
				t.Fatal(err)
			}
			dropZeroGaps(before)
			if !reflect.DeepEqual(before, after) {
				t.Errorf("%v\nis written as\n%v", before, after)
			}
		})
	}
	if files, err := os.ReadDir(filepath.Join("testdata", "1.0.0")); err != nil || len(files) != 10 {
		t.Errorf("%d messages are recorded: %v", len(files), err)
	}
}

// reread reads a message as this version does.
func reread[M any](check func(M) error) func(raw string) (any, error) {
	return func(raw string) (any, error) { return decode(strings.NewReader(raw), check) }
}

// dropZeroGaps removes what this version leaves out, and version 1.0.0 reads as 0.
func dropZeroGaps(m any) {
	o, is := m.(map[string]any)
	if !is {
		return
	}
	if o["gap_ns"] == 0.0 {
		delete(o, "gap_ns")
	}
	for _, v := range o {
		dropZeroGaps(v)
	}
}

// What is written in version 1 of the protocol has no field that version 1.0.0 does not know.
func TestVersionOneReadsWhatIsWrittenForIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind string
		m    any
	}{
		"status":           {requestStatus, status("b")},
		"a witness's":      {requestStatus, election.Status{Replica: "w", Role: election.Standby, Health: election.WitnessHealth()}},
		"claim":            {requestClaim, claimRequest("a")},
		"claim answer":     {"claim answer", claimAnswer()},
		"end":              {requestEnd, endRequest("a")},
		"progress":         {requestProgress, more()},
		"progress of none": {requestProgress, election.Progress{Claim: progress().Claim}},
		"switchover":       {requestSwitchover, switchover{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := byOne(test.kind, []byte(encode(t, written(test.m, 1)))); err != nil {
				t.Error(err)
			}
		})
	}
	for kind, m := range map[string]any{requestProgress: more(), requestStatus: status("b"), requestClaim: claimRequest("a")} {
		if err := byOne(kind, []byte(encode(t, written(m, 2)))); err == nil {
			t.Errorf("version 1.0.0 would take %s in version 2 of the protocol: the test shows nothing", kind)
		}
	}
}

// A client of version 1.0.0 names its one version, and looks whether the answer has the same.
func TestClientOfVersionOneIsAnsweredInItsVersion(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method, path, message string
		code                  int
		reads                 string
	}{
		"status":     {http.MethodGet, pathPrimary, "", http.StatusOK, requestStatus},
		"claim":      {http.MethodPost, pathClaims, "claim-request", http.StatusOK, "claim answer"},
		"withdrawal": {http.MethodDelete, pathClaims, "end-request-withdrawn", http.StatusNoContent, ""},
		"release":    {http.MethodDelete, pathClaims, "end-request", http.StatusNoContent, ""},
		"progress":   {http.MethodPost, pathProgress, "progress", http.StatusOK, ""}, // whose body it does not read
		"switchover": {http.MethodPost, pathSwitchover, "switchover", http.StatusNoContent, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				body := ""
				if test.message != "" {
					body = recorded(t, test.message)
				}
				resp := s.ask(test.method, test.path, body, nil)
				if resp.StatusCode != test.code || resp.Header.Get("Habot-Protocol") != "1" {
					t.Errorf("answered %d in version %q", resp.StatusCode, resp.Header.Get("Habot-Protocol"))
				}
				raw, err := io.ReadAll(resp.Body)
				if err == nil && test.reads != "" {
					err = byOne(test.reads, raw)
				}
				if err != nil {
					t.Errorf("%s: %v", raw, err)
				}
			})
		})
	}
}
