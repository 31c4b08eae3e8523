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
