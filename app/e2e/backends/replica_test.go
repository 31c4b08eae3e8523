//go:build e2e

package backends

import (
	"os/exec"
	"syscall"
	"testing"
)

// replica is one of habot's: a process on this machine, or on a host of a test's network.
type replica struct {
	*host
	env []string
	cmd *exec.Cmd
	log *journal
	// ended is closed when its process has.
	ended chan struct{}
}

// newReplica starts a replica, and has it killed when the test ends. A host without a network is this machine.
func newReplica(t *testing.T, h *host, env ...string) *replica {
	t.Helper()
	r := &replica{host: h, env: env, log: &journal{}}
	r.start(t)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() || *keepLogs {
			t.Logf("%s wrote:\n%s", r.name, r.log)
		}
	})
	return r
}

// start starts its process, also once that has ended.
func (r *replica) start(t *testing.T) {
	t.Helper()
	program, err := buildHabot()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(program)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if r.network != nil {
		r.cmd = exec.Command("ip", "netns", "exec", r.name, program)
	}
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.env, r.log, r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.ended = waited(r.cmd)
}

// waited is closed when a process has ended.
func waited(cmd *exec.Cmd) chan struct{} {
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	return ended
}

// kill is kill -9.
func (r *replica) kill() {
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	<-r.ended
}

func (r *replica) ends(t *testing.T) {
	t.Helper()
	ends(t, r.name, r.ended, r.kill)
}
