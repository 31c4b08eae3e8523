//go:build e2e

package backends

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

// pollers are echo bots that poll.
func pollers() []framework {
	return []framework{
		{"python-telegram-bot", []string{"python", "poll_ptb.py"}, nil},
		{"python-telegram-bot-13", []string{"python", "poll_ptb13.py"}, []string{"PYTHONPATH=ptb13", "PYTHONWARNINGS=ignore"}},
		{"aiogram", []string{"python", "poll_aiogram.py"}, nil},
		{"pyTelegramBotAPI", []string{"python", "poll_pytba.py"}, nil},
		{"pyTelegramBotAPI-async", []string{"python", "poll_pytba_async.py"}, nil},
		{"telegraf", []string{"node", "poll_telegraf.js"}, []string{"DEBUG=telegraf:polling"}},
		{"grammY", []string{"node", "poll_grammy.js"}, []string{"DEBUG=grammy:warn,grammy:error"}},
		{"grammY-runner", []string{"node", "poll_grammy.js"}, []string{"RUNNER=1", "DEBUG=grammy:warn,grammy:error"}},
		{"node-telegram-bot-api", []string{"node", "poll_ntba.js"}, nil},
		{"node-telegram-bot-api-0.67", []string{"node", "poll_ntba0.js"}, []string{"NTBA_FIX_350=1"}},
		{"telego", []string{"go", "polltelego"}, nil},
		{"telebot", []string{"go", "polltelebot"}, nil},
		{"go-telegram-bot", []string{"go", "pollgotelegram"}, nil},
		{"telegram-bot-api", []string{"go", "polltgbotapi"}, nil},
	}
}

// each runs a test for each framework that polls, several at a time.
func each(t *testing.T, f func(t *testing.T, f framework)) {
	t.Helper()
	oneByOne(t, func(t *testing.T, framework framework) {
		t.Parallel()
		f(t, framework)
	})
}

// oneByOne runs a test for each framework that polls.
func oneByOne(t *testing.T, f func(t *testing.T, f framework)) {
	t.Helper()
	if _, err := install(); err != nil {
		t.Fatal(err)
	}
	for _, framework := range pollers() {
		if *only != "" && *only != framework.name {
			continue
		}
		t.Run(framework.name, func(t *testing.T) { f(t, framework) })
	}
}

// harmless are lines in the logs of frameworks that are no errors: refusals of jobs, what telegraf traces, and what aiogram
// writes at a SIGTERM. grammY's line is about any call that is answered 409, which a job's is; a poll that is ends the bot.
var harmless = regexp.MustCompile(`^(job: .*|.*telegraf:polling (Starting long polling|Long polling stopped|Syncing update offset\.\.\.).*` +
	`|.*apscheduler.*Execution of job .* skipped: maximum number of running instances reached.*` + // a job's call waits for a primary
	`|.*Received SIGTERM signal|.*grammy:warn Error 409 means that you are running your bot several times.*)?$`)

// complaints are the lines of a copy's log that none of a healthy bot's are.
func (c *copyOf) complaints() (lines []string) {
	for line := range strings.Lines(c.log.String()[c.forgiven:]) {
		if line = strings.TrimSpace(line); !harmless.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// forgive has what a copy has complained of so far not count.
func (c *copyOf) forgive() { c.forgiven = len(c.log.String()) }

// noComplaints fails the test if the copy's log has any.
func (c *copyOf) noComplaints(t *testing.T) {
	t.Helper()
	if lines := c.complaints(); len(lines) > 0 {
		t.Errorf("%s complains:\n%s", c.name, strings.Join(lines, "\n"))
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// write has users write texts, 50 a second, each in a chat of its own in turn.
func write(sim *simulator.Simulator, n int) {
	for i := range n {
		sim.Write(simulator.FirstChat+int64(i%10), fmt.Sprintf("message %d at %d", i, time.Now().UnixNano()))
		time.Sleep(20 * time.Millisecond)
	}
}

// jobChat is a chat that no user writes in.
const jobChat = simulator.FirstChat + 9

// Each framework's bot polls the simulator: texts and files of 20 MB are answered, jobs run, and what waits is dropped if the
// bot asks for it. What follows about the gateway rests on this.
func TestPollersWithoutGateway(t *testing.T) {
	each(t, func(t *testing.T, f framework) {
		sim, telegram := newSimulator(t)
		sim.Write(simulator.FirstChat, "before the bot")
		c := plannedCopy(t, f, f.name, telegram, "DROP=1", fmt.Sprint("JOB_CHAT=", jobChat))
		c.start(t)
		// pyTelegramBotAPI drops by an offset of -1, which leaves the last update.
		eventually(t, 30*time.Second, "polls", func() bool { r := sim.Report(); return r.Polls > 0 && (r.Dropped == 1 || r.Answered == 1) })
		dropped := sim.Report().Dropped
		write(sim, 50)
		sim.WriteFile(simulator.FirstChat+1, "document", 20<<20)
		r := settled(t, sim, 30*time.Second)
		if r.Answered != 52-dropped || r.AnsweredTwice != 0 || r.Lost != 0 {
			t.Errorf("%+v", r)
		}
		eventually(t, 5*time.Second, "jobs", func() bool { return sim.Report().StrayMessages >= 2 })
		c.noComplaints(t)
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		sim.Write(simulator.FirstChat, "after the bot")
		c.ends(t)
	})
}
