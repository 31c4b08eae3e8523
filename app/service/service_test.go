package service

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"habot/app/election"
	"habot/app/logging"
)

// willing is a replica that does what it is told.
type willing struct{}

func (willing) Run(context.Context) error                { return nil }
func (willing) View() election.View                      { return election.View{} }
func (willing) Switchover(context.Context, string) error { return nil }
func (willing) SetHealth(election.Health)                {}

func TestTheLogTellsThatAnOperatorAskedForASwitchover(t *testing.T) {
	logs := &record{}
	if err := (operated{willing{}, logging.New(logs, slog.LevelInfo, false)}).Switchover(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	if got := logs.String(); !strings.Contains(got, `msg="switchover requested" by=operator`) {
		t.Errorf("logged %q", got)
	}
}

// The demo's token is public, and a stack's ports are open to all.
func TestADemoThatIsDeployedAsAStackIsAnError(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]bool{
		"SWARM_TASK=habot_bot.1":                                                      true,
		"SWARM_TASK={{.Service.Name}}.{{.Task.Slot}}":                                 false,
		"SWARM_TASK=habot_bot.1 BOT_TOKEN=123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi": false,
	} {
		var logs record
		s := &service{cfg: load(t, strings.Fields(environ)...), log: slog.New(slog.NewTextHandler(&logs, nil))}
		s.warn()
		if got := strings.Contains(logs.String(), "level=ERROR") && strings.Contains(logs.String(), "this stack runs the demo"); got != want {
			t.Errorf("%s: an error %t, want %t:\n%s", environ, got, want, logs.String())
		}
	}
}
