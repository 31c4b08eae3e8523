package election

import (
	"testing"
	"time"
)

// Lowering LEASE one replica after the other starts processes whose silence is shorter than promises that
// were made before: they MUST at least leave a primary alone with which they are in contact.
func TestAPrimaryUnderAnotherLeaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) Reading { return Reading{Now: Instant(d), Wall: int64(time.Hour + d)} }
	m := New(Config{Self: "b", Name: "b", Lease: time.Second, Replicas: 3}, at(0))
	primary := Claim{Timestamp: int64(time.Hour), Replica: "a"}
	heard := 900 * time.Millisecond
	m.Step(at(heard), StatusReceived{SentAt: at(heard).Now, Status: Status{
		Protocol: Protocol, Replica: "a", Name: "a", Role: Primary, Primary: primary, PrimaryName: "a",
		Remaining: 7 * time.Second, Lease: 10 * time.Second, Replicas: 3, Quorum: 2, Health: Health{OK: true},
	}})
	for d := heard; d < heard+9*time.Second; d += 50 * time.Millisecond {
		for _, out := range m.Step(at(d), Tick{}) {
			if claim, ok := out.(SendClaim); ok {
				if d < heard+7*time.Second {
					t.Fatalf("claimed %v after a primary said that it has 7s left", d-heard)
				}
				if claim.Request.Claim.Replica != "b" {
					t.Fatalf("claimed %v", claim.Request.Claim)
				}
				return
			}
		}
	}
	t.Error("never claimed, long after the primary's lease had ended")
}

// A withdrawal can get lost: who claims again has ended what it claimed before.
func TestALaterClaimOfTheSameReplicaEndsItsEarlier(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) Reading { return Reading{Now: Instant(d), Wall: int64(time.Hour + d)} }
	m := New(Config{Self: "b", Name: "b", Lease: time.Second, Replicas: 3}, at(0))
	m.Step(at(1500*time.Millisecond), Tick{})
	ask := func(d time.Duration, timestamp time.Duration) ClaimAnswer {
		t.Helper()
		c := Claim{Timestamp: int64(timestamp), Replica: "a"}
		from := Status{Protocol: Protocol, Replica: "a", Name: "a", Role: Candidate, Lease: time.Second, Replicas: 3, Quorum: 2}
		for _, out := range m.Step(at(d), ClaimReceived{Request: ClaimRequest{From: from, Claim: c}}) {
			if r, ok := out.(Reply); ok {
				return r.Answer
			}
		}
		t.Fatal("no reply")
		return ClaimAnswer{}
	}
	if a := ask(1600*time.Millisecond, time.Hour/2); !a.Granted {
		t.Fatalf("refused: %+v", a)
	}
	if a := ask(1700*time.Millisecond, time.Hour/2+1); !a.Granted {
		t.Errorf("the later claim is refused: %s", a.Refusal)
	}
	if a := ask(1800*time.Millisecond, time.Hour/2); a.Granted {
		t.Error("a late message of the earlier claim is granted")
	}
}
