//go:build e2e

// Package backends runs bots of other people's frameworks, in their newest versions, as webhook backends.
package backends

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
}

func frameworks() []framework {
	return []framework{
		{"python-telegram-bot", []string{"python", "ptb.py"}},
		{"aiogram", []string{"python", "aiogram_bot.py"}},
		{"pyTelegramBotAPI", []string{"python", "pytba.py"}},
		{"telegraf", []string{"node", "telegraf.js"}},
		{"grammY", []string{"node", "grammy.js"}},
		{"node-telegram-bot-api", []string{"node", "ntba.js"}},
		{"telego", []string{"go", "telego"}},
		{"telebot", []string{"go", "telebot"}},
		{"go-telegram-bot", []string{"go", "gotelegram"}},
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
	for _, part := range []struct {
		name  string
		files []string // whose change makes it be installed afresh
		steps [][]string
	}{
		{"python", []string{"python/requirements.txt"}, [][]string{
			{"python3", "-m", "venv", "--clear", "venv"}, {"venv/bin/pip", "install", "--quiet", "--requirement", "requirements.txt"},
		}},
		{"node", []string{"node/package.json", "node/package-lock.json"}, [][]string{{"npm", "ci", "--silent", "--no-audit", "--no-fund"}}},
		{"go", []string{"go/go.mod", "go/go.sum"}, nil},
	} {
		if err := installPart(filepath.Join(dir, part.name), part.name, part.files, part.steps); err != nil {
			return "", fmt.Errorf("install %s: %w", part.name, err)
		}
	}
	return dir, nil
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
		cmd := exec.Command("go", "build", "-o", dir+"/", "./...")
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
	port int
	env  []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
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

// newCopy starts a copy of a bot, and has it killed when the test ends.
func newCopy(t *testing.T, f framework, name, apiRoot string) *copyOf {
	t.Helper()
	c := &copyOf{f: f, name: name, port: freePort(t), log: &bytes.Buffer{}}
	c.env = append(os.Environ(), "BOT_TOKEN="+token, "API_ROOT="+apiRoot, "SECRET="+secret, "PORT="+strconv.Itoa(c.port), "NAME="+name)
	c.start(t)
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", c.name, c.log)
		}
	})
	return c
}

// start starts the copy, and returns when it takes connections.
func (c *copyOf) start(t *testing.T) {
	t.Helper()
	dir, err := install()
	if err != nil {
		t.Fatal(err)
	}
	command := map[string]string{"python": filepath.Join(dir, "python/venv/bin/python"), "node": "node", "go": filepath.Join(dir, "go", c.f.run[1])}[c.f.run[0]]
	c.cmd = exec.Command(command, c.f.run[1:]...)
	if c.f.run[0] != "go" {
		c.cmd.Dir = filepath.Join(dir, c.f.run[0])
	}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Signal(syscall.SIGKILL)
		_ = c.cmd.Wait()
	}
}

func (c *copyOf) url() string { return fmt.Sprintf("http://127.0.0.1:%d/hook", c.port) }
