// Command habot is one replica of a highly available Telegram bot, its command line, and the simulator.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/doctor"
	"habot/app/logging"
	"habot/app/service"
	"habot/app/simulator"
	"habot/app/web"
)

const usage = `usage: habot [command]

  serve               run a replica (the default)
  healthcheck         exit 0 if the replica beside it is alive
  status [--watch]    show whether the bot answers, and all replicas; exit 1 if it does not answer
  history             show the last changes of primary
  doctor              check settings, network, replicas and Telegram, a line each; exit 1 on warnings, 2 on errors
  switchover [NAME]   move the primary role to a replica, to any if none is named
  next                with BACKEND=gateway: make another copy of the bot the active one
  simulator           run the stand-in for Telegram
  version             show version and commit

All configuration comes from the environment: see .env.example.`

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// flushBound bounds the wait for the last lines of the log.
const flushBound = 100 * time.Millisecond

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run parses, maps signals to a context, and returns an exit code.
func run(args []string, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	most := 0
	switch command {
	case "switchover":
		most = 1
	case "status":
		if len(args) == 1 && args[0] == watchFlag {
			most = 1
		}
	case "serve", "healthcheck", "history", "doctor", "next", "simulator", "version", "help", "-h", "--help":
	default:
		_, _ = fmt.Fprintf(stderr, "habot: there is no command %q\n%s\n", command, usage)
		return exitUsage
	}
	if len(args) > most {
		_, _ = fmt.Fprintf(stderr, "habot: too many arguments for %s\n%s\n", command, usage)
		return exitUsage
	}
	environ := os.Environ()
	switch command {
	case "version":
		_, _ = fmt.Fprintln(stdout, thisBuild(buildInfo()))
		return 0
	case "help", "-h", "--help":
		_, _ = fmt.Fprintln(stdout, usage)
		return 0
	case "simulator":
		var rehearsal bool
		if environ, rehearsal = config.Rehearsal(environ); !rehearsal && !config.Demo(environ) {
			_, _ = fmt.Fprintln(stderr, "BOT_TOKEN or WITNESS is set: the simulator is not needed")
			return 0
		}
	}
	if command == "serve" && runtime.GOOS != "linux" {
		_, _ = fmt.Fprintln(stderr, "habot: a replica runs on Linux only: no other system has the clock that its lease needs")
		return exitFailed
	}
	cfg, err := config.Load(environ, os.ReadFile)
	if command == "doctor" {
		return examine(cfg, err, environ, stdout, stderr)
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintln(stderr, "habot:", line)
		}
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var name string
	var whose []any // of every line of a replica
	if command == "serve" {
		name = service.Name(ctx, cfg)
		whose = []any{"replica", name}
	}
	queue := logging.NewQueue(stderr, cfg.LogJSON, whose...)
	defer queue.Flush(flushBound)
	p := process{cfg: cfg, name: name, log: logging.New(queue, cfg.LogLevel, cfg.LogJSON).With(whose...), stdout: stdout, exit: func(code int) {
		queue.Flush(flushBound)
		os.Exit(code)
	}}
	log.SetFlags(0)
	log.SetOutput(logging.Library(p.log))
	if err := p.carryOut(ctx, command, args); err != nil {
		if errors.Is(err, errNotAnswering) {
			return exitFailed // the status says so
		}
		if command == "serve" || command == "simulator" {
			p.log.Error("exiting", "error", err)
		} else {
			_, _ = fmt.Fprintln(stderr, "habot:", err)
		}
		return exitFailed
	}
	return 0
}

// examine is the command doctor. err is that of the configuration.
func examine(cfg config.Config, err error, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.SetOutput(io.Discard) // what net/http finds odd in an answer
	opts := doctor.Options{Config: cfg, Version: thisBuild(buildInfo()).version}
	if err != nil {
		opts.Problems = strings.Split(err.Error(), "\n")
	}
	opts.Files, err = config.SecretFiles(environ)
	if err == nil {
		var world *doctor.World
		if world, err = doctor.NewWorld(opts); err == nil {
			defer world.Close()
			return doctor.Write(stdout, doctor.Examine(ctx, opts, world))
		}
	}
	_, _ = fmt.Fprintln(stderr, "habot:", err)
	return exitUsage
}

// process is what every command has.
type process struct {
	cfg    config.Config
	name   string // of the replica, for serve
	log    *slog.Logger
	stdout io.Writer
	exit   func(code int)
}

func (p process) carryOut(ctx context.Context, command string, args []string) error {
	operator := web.NewClient(p.cfg.HTTPAddr, cmp.Or(p.cfg.AdminToken, p.cfg.OperatorKey))
	switch command {
	case "healthcheck":
		first, _ := os.ReadFile("/proc/1/cmdline")                                  // not there: not in a container
		return web.NewClient(healthAddr(p.cfg, string(first)), "").Healthcheck(ctx) //nolint:wrapcheck // shown as it is
	case "status":
		if len(args) > 0 {
			return p.watchStatus(ctx, operator)
		}
		return p.showStatus(ctx, operator)
	case "history":
		changes, err := operator.History(ctx)
		if err != nil {
			return fmt.Errorf("show the history: %w", err)
		}
		web.WriteHistory(p.stdout, changes)
		return nil
	case "switchover":
		to := ""
		if len(args) > 0 {
			to = args[0]
		}
		change, took, err := operator.Switchover(ctx, to)
		if err != nil {
			return err //nolint:wrapcheck // one clear sentence
		}
		_, err = fmt.Fprintf(p.stdout, "%s is primary now, replacing %s; it took %s, of which there was no primary for %s\n",
			change.Name, change.Previous, diagnosis.Span(took), diagnosis.Downtime(change))
		return err //nolint:wrapcheck // standard output
	case "next":
		if err := operator.Next(ctx); err != nil {
			return err //nolint:wrapcheck // one clear sentence
		}
		_, err := fmt.Fprintln(p.stdout, "another copy of the bot is active now: see habot status")
		return err //nolint:wrapcheck // standard output
	case "simulator":
		return p.simulate(ctx)
	default:
		return service.Run(ctx, service.Options{Config: p.cfg, Name: p.name, Version: thisBuild(buildInfo()).version, Logger: p.log, Exit: p.exit}) //nolint:wrapcheck // shown as it is
	}
}

// healthAddr is where the process answers that is looked at: the container's first, a replica unless it was
// started as the simulator.
func healthAddr(cfg config.Config, firstCommand string) string {
	args := strings.Split(firstCommand, "\x00")
	if i := slices.Index(args, "simulator"); i > 0 && path.Base(args[i-1]) == "habot" {
		return cfg.SimulatorAddr
	}
	return cfg.HTTPAddr
}

// errNotAnswering is the exit code of a status that was shown.
var errNotAnswering = errors.New("the bot does not answer")

func (p process) showStatus(ctx context.Context, operator *web.Client) error {
	s, err := operator.Status(ctx)
	if err != nil {
		return fmt.Errorf("show the status: %w", err)
	}
	web.WriteStatus(p.stdout, s)
	if !s.Verdict.OK() {
		return errNotAnswering
	}
	return nil
}

const (
	// watchFlag has the status shown again and again.
	watchFlag  = "--watch"
	watchEvery = time.Second
	// clearScreen moves the cursor home and erases the screen (ECMA-48).
	clearScreen = "\x1b[H\x1b[2J"
)

// watchStatus shows the status until ctx ends, also while the replica cannot be asked.
func (p process) watchStatus(ctx context.Context, operator *web.Client) error {
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for {
		var page strings.Builder
		if s, err := operator.Status(ctx); err != nil {
			_, _ = fmt.Fprintln(&page, "the status cannot be shown:", err)
		} else {
			web.WriteStatus(&page, s)
		}
		if _, err := fmt.Fprint(p.stdout, clearScreen, page.String()); err != nil {
			return fmt.Errorf("show the status: %w", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p process) simulate(ctx context.Context) error {
	cfg, log := p.cfg, p.log
	s := simulator.New(simulator.Config{
		Addr: cfg.SimulatorAddr, Token: cfg.Token, AnyToken: cfg.SimulatorRehearsal, Rate: cfg.SimulatorRate, Chats: cfg.SimulatorChats, Project: cfg.SimulatorProject, AwaitBot: true, Logger: log,
	})
	if err := s.Listen(); err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	log.Info("simulating Telegram", "addr", cfg.SimulatorAddr, "rate_per_second", cfg.SimulatorRate, "chats", cfg.SimulatorChats)
	if err := s.Run(ctx); err != nil {
		return fmt.Errorf("the simulator failed: %w", err)
	}
	return nil
}
