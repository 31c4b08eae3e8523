package update

// Outcome is what became of an update that needs no more handling. The set is closed: outcomes are values of a
// metric's label.
type Outcome string

// The outcomes.
const (
	// Answered: it was handled, by an answer or by a backend that took it.
	Answered Outcome = "answered"
	// Ignored: there was nothing to do.
	Ignored Outcome = "ignored"
	// Failed: it could not be answered, and trying again would not help or did not for long.
	Failed Outcome = "failed"
	// Panicked: handling it ended in a panic, and would again.
	Panicked Outcome = "panic"
	// Skipped: a predecessor has handled it.
	Skipped Outcome = "skipped"
	// Poison: backends answered it with an error for long while they took others.
	Poison Outcome = "poison"
	// Expired: Telegram does not keep it any longer, so neither does habot.
	Expired Outcome = "expired"
)

// Outcomes lists all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Answered, Ignored, Failed, Panicked, Skipped, Poison, Expired}
}
