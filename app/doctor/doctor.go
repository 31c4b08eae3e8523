package doctor

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"habot/app/config"
	"habot/app/election"
	"habot/app/gateway"
)

// Level is what a line means for the exit code.
type Level int

// The levels, from best to worst.
const (
	OK      Level = iota
	Skipped       // not checked, for the reason that the line states
	Warning
	Error
)

// String is the level as it stands at the start of a line.
func (l Level) String() string {
	switch l {
	case OK:
		return "OK"
	case Skipped:
		return "-"
	case Warning:
		return "WARN"
	default:
		return "ERROR"
	}
}

// Line is the outcome of one check.
type Line struct {
	Level Level
	// Subject is what was checked.
	Subject string
	// Text is what was found; for a warning or an error also what to do.
	Text string
}

// String is the line as it is printed.
func (l Line) String() string { return fmt.Sprintf("%-5s %s: %s", l.Level, l.Subject, l.Text) }

// Replica is what a replica answered.
type Replica struct {
	Status election.Status
	// RoundTrip is the median of some requests over a connection that exists.
	RoundTrip time.Duration
	// Date is the replica's wall clock, without fractions of a second; zero if not known. It was read between Asked and
	// Answered, which are this machine's.
	Asked, Answered, Date time.Time
}

// Webhook is what Telegram knows of a bot's webhook.
type Webhook struct {
	// Host is the host of its URL, whose path may hold a secret; empty if no webhook is set.
	Host string
	// Pending is how many updates wait.
	Pending int
}

// File is a file of a secret.
type File struct {
	// Content is its beginning.
	Content []byte
	// ByReplicas tells whether the user of the image, 65532, may read it by its owner and mode; Judged is false if the
	// system does not show them.
	ByReplicas, Judged bool
}

// Limits are what the system grants this process; 0 for no limit, or for one that is not known.
type Limits struct {
	Descriptors int64
	Memory      int64 // bytes
	Processors  float64
}

// Probes are what checks ask of the world. Methods are called concurrently, and MUST return soon after ctx ends or within a
// bound of their own.
type Probes interface {
	// Resolve looks a name up; an address is its own.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial makes a connection, with TLS if serverName is not empty, and closes it. It returns how long that took.
	Dial(ctx context.Context, addr netip.AddrPort, serverName string) (time.Duration, error)
	// Replica asks the replica at host:port.
	Replica(ctx context.Context, addr string) (Replica, error)
	// Copies asks the replica at host:port for the copies of a polling bot, which it asks the primary for.
	Copies(ctx context.Context, addr string) (gateway.Snapshot, error)
	// Me is getMe: the bot's user name.
	Me(ctx context.Context) (string, error)
	// Webhook is getWebhookInfo.
	Webhook(ctx context.Context) (Webhook, error)
	// Lifelines is how many sockets are in LIFELINE_DIR; an error means that it cannot be used.
	Lifelines(ctx context.Context) (int, error)
	File(path string) (File, error)
	Limits() Limits
}

// Options are what is examined.
type Options struct {
	// Config is the configuration, unless there are Problems: then only files and limits are examined beside them.
	Config   config.Config
	Problems config.Problems
	// Files are those that secrets are read from.
	Files   []config.SecretFile
	Version string
}

// bound is how long an examination takes at most; each step of a check has a bound of its own below it.
const bound = 15 * time.Second

// Examine runs all checks and returns their lines, always in the same order. It takes 15 seconds at most.
func Examine(ctx context.Context, opts Options, probes Probes) []Line {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	e := examination{Options: opts, Probes: probes}
	e.resolved = sync.OnceValues(func() ([]Line, []string) { return e.instances(ctx) })
	checks := []func(context.Context) []Line{e.configuration, e.files}
	if len(opts.Problems) == 0 {
		checks = append(checks, e.cluster, e.lifelines, e.telegram, e.backends)
	}
	checks = append(checks, e.limits)
	found := make([][]Line, len(checks))
	var all sync.WaitGroup
	for i, check := range checks {
		all.Go(func() { found[i] = check(ctx) })
	}
	all.Wait()
	hide := hiding(opts.Config)
	lines := slices.Concat(found...)
	for i, l := range lines {
		lines[i].Subject, lines[i].Text = line(hide(l.Subject)), line(hide(l.Text))
	}
	return lines
}

// Write prints lines and a last one that counts what is wrong, and returns the exit code: 0, 1 with warnings, 2 with
// errors.
func Write(w io.Writer, lines []Line) int {
	var text strings.Builder
	count := map[Level]int{}
	for _, l := range lines {
		count[l.Level]++
		fmt.Fprintln(&text, l)
	}
	code := 0
	switch {
	case count[Error] > 0:
		code = 2
		fmt.Fprintf(&text, "\n%s, %s\n", plural(count[Error], "error"), plural(count[Warning], "warning"))
	case count[Warning] > 0:
		code = 1
		fmt.Fprintf(&text, "\n%s\n", plural(count[Warning], "warning"))
	default:
		fmt.Fprint(&text, "\nnothing is wrong\n")
	}
	_, _ = io.WriteString(w, text.String()) // the exit code says the same
	return code
}

func plural(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	default:
		return fmt.Sprintf("%d %ss", n, what)
	}
}

// hiding takes the secrets of a configuration out of a text, should another side have sent one back.
func hiding(cfg config.Config) func(string) string {
	var pairs []string
	hide := func(secret string) {
		if len(secret) >= 4 { // one that is shorter would be found in any text
			pairs = append(pairs, secret, "<secret>")
		}
	}
	for _, token := range []string{cfg.Token, cfg.GatewayToken} {
		if token != config.DemoToken {
			hide(token)
			_, secret, _ := strings.Cut(token, ":")
			hide(secret)
		}
	}
	for _, s := range cfg.ClusterSecrets {
		hide(string(s))
	}
	hide(cfg.AdminToken)
	hide(cfg.OperatorKey)
	hide(cfg.BackendSecret)
	if cfg.Proxy != nil && cfg.Proxy.User != nil {
		password, _ := cfg.Proxy.User.Password()
		hide(password)
	}
	return strings.NewReplacer(pairs...).Replace
}

// longest is how much of a line is shown, in bytes.
const longest = 400

// line is a text as a part of one line: names and reasons come from other machines.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}
