package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"time"
	"unicode/utf8"

	"habot/app/election"
)

// Bounds of what one replica takes from another.
const (
	maxBody    = 64 << 10
	maxText    = election.MaxText
	maxHandled = election.MaxHandled
	maxNotes   = 1000
	maxSettled = 16
	maxHistory = 100
	// maxSpan bounds every duration in a message: no lease is longer than a minute.
	maxSpan = 24 * time.Hour
)

// refusalHeader names what a primary refused, on the answer.
const refusalHeader = "Habot-Refusal"

// refusal is an error that keeps its meaning on its way to another replica: by its code and, for a replica of version
// 1.0.0, which knows no codes, by the words that this version has for it.
type refusal struct {
	err        error
	code, text string
}

func refusals() []refusal {
	return []refusal{
		{election.ErrNotPrimary, "not_primary", "this replica is not primary"},
		{election.ErrNoSuccessor, "no_successor", "no such standby can take over"},
	}
}

// Paths.
const (
	pathPrimary    = "/v1/primary"
	pathClaims     = "/v1/claims"
	pathLeave      = "/v1/leave"
	pathHistory    = "/v1/history"
	pathProgress   = "/v1/progress"
	pathSwitchover = "/v1/switchover"
)

// ErrProtocol says that the other replica speaks no version of the protocol that this one does.
var ErrProtocol = errors.New("the other replica speaks another version of the protocol")

// ErrMessage says that a message is not one of ours: malformed, too large or out of bounds.
var ErrMessage = errors.New("not a valid message")

// switchover asks the primary to hand over.
type switchover struct {
	Successor string `json:"successor"`
}

// complaint is the body of a refused request.
type complaint struct {
	Error string `json:"error"`
}

// decode reads exactly one message, strictly, and checks it.
func decode[M any](body io.Reader, check func(M) error) (M, error) {
	var m M
	raw, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return m, fmt.Errorf("read a message: %w", err)
	}
	if len(raw) > maxBody {
		return m, fmt.Errorf("%w: larger than %d bytes", ErrMessage, maxBody)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("%w: more than one value", ErrMessage)
	}
	if err := check(m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return m, nil
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/json"
}

func checkText(name, s string) error {
	if len(s) > maxText || !utf8.ValidString(s) {
		return fmt.Errorf("%s is longer than %d bytes or not UTF-8", name, maxText)
	}
	return nil
}

// checkOneOf takes the values of a closed set: they end up as values of labels.
func checkOneOf[T ~string](name string, value T, set []T) error {
	if !slices.Contains(set, value) {
		return fmt.Errorf("%s is none of those there are", name)
	}
	return nil
}

func checkSpan(name string, d time.Duration) error {
	if d < 0 || d > maxSpan {
		return fmt.Errorf("%s is out of bounds", name)
	}
	return nil
}

// checkClaim takes a claim that stands for one; zero says whether none will do as well.
func checkClaim(name string, c election.Claim, zero bool) error {
	if zero && c.IsZero() {
		return nil
	}
	// Half the range leaves room for every timestamp that can follow.
	if c.Timestamp <= 0 || c.Timestamp > 1<<62 || c.Replica == "" {
		return fmt.Errorf("%s is no claim", name)
	}
	return checkText(name, string(c.Replica))
}

func checkStatus(s election.Status) error {
	if s.Replica == "" || s.Role == "" {
		return errors.New("a status without replica or role")
	}
	return errors.Join(
		checkText("replica", string(s.Replica)), checkText("name", s.Name), checkText("version", s.Version),
		checkOneOf("role", s.Role, election.Roles()), checkText("primary_name", s.PrimaryName), checkText("health", s.Health.Detail),
		checkClaim("primary", s.Primary, true), checkClaim("floor", s.Floor, true),
		checkSpan("remaining", s.Remaining), checkSpan("lease", s.Lease),
		checkClaim("change", s.Change.Claim, true), checkChange(s.Change),
	)
}

// checkChange takes a change of primary, but for its claim.
func checkChange(c election.Change) error {
	return errors.Join(
		checkText("change", c.Name), checkText("change", c.Previous),
		checkOneOf("change", c.Reason, append(election.Reasons(), "")), checkSpan("change", c.Gap),
	)
}

func checkHistory(h election.History) error {
	if len(h.Changes) > maxHistory {
		return fmt.Errorf("more than %d changes of primary", maxHistory)
	}
	for _, c := range h.Changes {
		if err := errors.Join(checkClaim("change", c.Claim, false), checkChange(c)); err != nil {
			return err
		}
	}
	return nil
}

func checkClaimRequest(r election.ClaimRequest) error {
	if r.Claim.Replica != r.From.Replica {
		return errors.New("a claim for another replica")
	}
	return errors.Join(checkStatus(r.From), checkClaim("claim", r.Claim, false))
}

func checkClaimAnswer(a election.ClaimAnswer) error {
	return errors.Join(checkStatus(a.From), checkClaim("claim", a.Claim, false), checkClaim("holder", a.Holder, true),
		checkOneOf("refusal", a.Refusal, append(election.Refusals(), "")),
		checkSpan("remaining", max(a.Remaining, -a.Remaining))) // a promise that has run out may be below zero
}

func checkEndRequest(r election.EndRequest) error {
	if r.Claim.Replica != r.From.Replica {
		return errors.New("the end of another replica's claim")
	}
	return errors.Join(checkStatus(r.From), checkClaim("claim", r.Claim, false),
		checkOneOf("reason", r.Reason, append(election.Reasons(), "")), checkText("successor", string(r.Successor)))
}

func checkLeaveRequest(r election.LeaveRequest) error { return checkStatus(r.From) }

func checkLeaveAnswer(a election.LeaveAnswer) error {
	return errors.Join(checkStatus(a.From), checkClaim("claim", a.Claim, true))
}

func checkProgress(p election.Progress) error {
	if len(p.Handled) > maxHandled {
		return fmt.Errorf("more than %d updates", maxHandled)
	}
	if len(p.Notes) > maxNotes {
		return fmt.Errorf("more than %d notes", maxNotes)
	}
	if len(p.Settled) > maxSettled {
		return fmt.Errorf("more than %d terms", maxSettled)
	}
	for _, s := range p.Settled {
		if err := checkClaim("settled", s.Claim, false); err != nil {
			return err
		}
	}
	return checkClaim("claim", p.Claim, false)
}

func checkProgressAnswer(a election.ProgressAnswer) error {
	if a.Unknown == nil {
		return nil
	}
	return checkProgress(*a.Unknown)
}

func checkSwitchover(s switchover) error { return checkText("successor", s.Successor) }

func checkComplaint(c complaint) error { return checkText("error", c.Error) }
