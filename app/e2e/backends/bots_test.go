//go:build e2e

// Package backends runs bots of other people's frameworks, in their newest versions, as webhook backends.
package backends

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// framework is an echo bot.
type framework struct {
	name string
	// run is its command; python, node and the Go programs are found in the cache.
	run []string
	env []string
}

func frameworks() []framework {
	return []framework{
		{"python-telegram-bot", []string{"python", "ptb.py"}, nil},
		{"aiogram", []string{"python", "aiogram_bot.py"}, nil},
		{"pyTelegramBotAPI", []string{"python", "pytba.py"}, nil},
		{"telegraf", []string{"node", "telegraf.js"}, nil},
		{"grammY", []string{"node", "grammy.js"}, nil},
		{"node-telegram-bot-api", []string{"node", "ntba.js"}, nil},
		{"telego", []string{"go", "telego"}, nil},
		{"telebot", []string{"go", "telebot"}, nil},
		{"go-telegram-bot", []string{"go", "gotelegram"}, nil},
	}
}

// cache is where the frameworks are installed: outside the repository, and kept for the next run.
func cache() (string, error) {
	if dir := os.Getenv("HABOT_BACKENDS_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "habot-backends"), err
}

// install installs all frameworks, once for each change of the lists of versions.
var install = sync.OnceValues(func() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	type part struct {
		name  string
		files []string // whose change makes it be installed afresh
		steps [][]string
	}
	parts := []part{
		{"python", []string{"python/requirements.txt", "python/requirements13.txt"}, [][]string{
			{"python3", "-m", "venv", "--clear", "venv"}, {"venv/bin/pip", "install", "--quiet", "--requirement", "requirements.txt"},
			// Of the same name as its successor, and so in a folder of its own.
			{"venv/bin/pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", "ptb13", "--requirement", "requirements13.txt"},
		}},
		{"node", []string{"node/package.json", "node/package-lock.json"}, [][]string{{"npm", "ci", "--silent", "--no-audit", "--no-fund"}}},
		{"go", []string{"go/go.mod", "go/go.sum"}, nil},
	}
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() {
			if err := installPart(filepath.Join(dir, p.name), p.name, p.files, p.steps); err != nil {
				errs[i] = fmt.Errorf("install %s: %w", p.name, err)
			}
		})
	}
	all.Wait()
	return dir, errors.Join(errs...)
})

func installPart(dir, name string, files []string, steps [][]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	bots, err := filepath.Glob(name + "/*.*")
	if err != nil {
		return err
	}
	sum := sha256.New()
	for _, f := range bots {
		raw, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if strings.Contains(strings.Join(files, " "), f) {
			sum.Write(raw)
		}
		if name != "go" {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), raw, 0o600); err != nil {
				return err
			}
		}
	}
	if name == "go" {
		// stdjson is telego's own tag, and habot's: without, it compiles for seconds at the first update, on all cores.
		cmd := exec.Command("go", "build", "-tags", "stdjson", "-o", dir+"/", "./...")
		cmd.Dir = "go"
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	mark, want := filepath.Join(dir, "installed"), hex.EncodeToString(sum.Sum(nil))
	if have, err := os.ReadFile(mark); err == nil && string(have) == want {
		return nil
	}
	for _, step := range steps {
		cmd := exec.Command(step[0], step[1:]...)
		if strings.Contains(step[0], "/") {
			cmd.Path = filepath.Join(dir, step[0])
		}
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return os.WriteFile(mark, []byte(want), 0o600)
}

// copyOf is one running copy of a bot.
type copyOf struct {
	f    framework
	name string
	port int // 0: it polls
	env  []string
	// machine is what it runs on; nil: the test's own.
	machine *host
	cmd     *exec.Cmd
	log     *journal
	// forgiven is up to where complaints in the log do not count.
	forgiven int
	// ended is closed when its process has.
	ended chan struct{}
}

// journal is what a process writes.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

const (
	token  = "1000000001:habot-demo-token-for-the-simulator0"
	secret = "a-secret_of-the-tests"
)

// freePort is a port that no process listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newCopy starts a copy of a bot that is a webhook backend, and returns when it takes connections. It is killed when the test
// ends.
func newCopy(t *testing.T, f framework, name, apiRoot string) *copyOf {
	t.Helper()
	port := freePort(t)
	c := plannedCopy(t, f, name, apiRoot, "SECRET="+secret, "PORT="+strconv.Itoa(port))
	c.port = port
	c.start(t)
	return c
}

// plannedCopy is a copy of a bot that is not started yet. It is killed when the test ends.
func plannedCopy(t *testing.T, f framework, name, apiRoot string, env ...string) *copyOf {
	t.Helper()
	c := &copyOf{f: f, name: name, log: &journal{}}
	c.env = append(append(append(os.Environ(), "BOT_TOKEN="+token, "API_ROOT="+apiRoot, "NAME="+name), f.env...), env...)
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", c.name, c.log)
		}
	})
	return c
}

// start starts the copy, and returns when it takes connections, if it does.
func (c *copyOf) start(t *testing.T) {
	t.Helper()
	dir, err := install()
	if err != nil {
		t.Fatal(err)
	}
	run := append([]string{}, c.f.run...)
	run[0] = map[string]string{"python": filepath.Join(dir, "python/venv/bin/python"), "node": "node", "go": filepath.Join(dir, "go", run[1])}[run[0]]
	if c.machine != nil {
		run = append([]string{"ip", "netns", "exec", c.machine.name}, run...)
	}
	c.cmd = exec.Command(run[0], run[1:]...)
	if c.f.run[0] != "go" {
		c.cmd.Dir = filepath.Join(dir, c.f.run[0])
	}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.ended = waited(c.cmd)
	if c.port == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(c.port))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s does not start: %v\n%s", c.name, err, c.log)
		}
	}
}

// kill is kill -9.
func (c *copyOf) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Signal(syscall.SIGKILL)
		<-c.ended
	}
}

func (c *copyOf) url() string { return fmt.Sprintf("http://127.0.0.1:%d/hook", c.port) }
