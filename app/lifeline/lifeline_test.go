package lifeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/election"
)

// The tests' other replicas are processes of their own: this binary, started again with these variables.
const (
	childRole = "LIFELINE_CHILD" // "replica", or "relay"
	childDir  = "LIFELINE_DIR"
	childID   = "LIFELINE_ID"
	childKey  = "LIFELINE_SECRET"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "replica":
		replicaMain()
	case "relay":
		relayMain()
	default:
		os.Exit(m.Run())
	}
}

// replicaMain says "open", and for each line on its standard input does what it says.
func replicaMain() {
	l, err := Open(Config{
		Dir: os.Getenv(childDir), Self: election.ReplicaID(os.Getenv(childID)), Secret: []byte(os.Getenv(childKey)),
		Logger: slog.New(slog.DiscardHandler), Died: func(id election.ReplicaID) { fmt.Println("died", id) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = l.Run(ctx)
		close(ended)
	}()
	fmt.Println("open")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "stop":
			stop()
			<-ended
			fmt.Println("stopped")
		case "meet two":
			for tick := time.NewTicker(time.Millisecond); len(l.Connected()) < 2; {
				<-tick.C
			}
			fmt.Println("met")
		case "collect":
			for range 5 {
				runtime.GC()
			}
			fmt.Println("collected")
		}
	}
	select {} // until it is killed
}

// relayMain stands between a socket of its own, named after the id in LIFELINE_ID with its first digit changed to f, and
// that of the replica with that id.
func relayMain() {
	dir, id := os.Getenv(childDir), os.Getenv(childID)
	sock, err := net.Listen("unix", filepath.Join(dir, "f"+id[1:]+suffix))
	if err != nil {
		os.Exit(1)
	}
	fmt.Println("open")
	for {
		a, err := sock.Accept()
		if err != nil {
			os.Exit(1)
		}
		b, err := net.Dial("unix", filepath.Join(dir, id+suffix))
		if err != nil {
			os.Exit(1)
		}
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_ = errors.Join(to.Close(), from.Close())
		}
		go pass(a, b)
		go pass(b, a)
	}
}

// child is another process.
type child struct {
	t    *testing.T
	id   election.ReplicaID
	cmd  *exec.Cmd
	in   io.Writer
	said *bufio.Scanner
}

func start(t *testing.T, role, dir string, id election.ReplicaID, secret string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir, childID+"="+string(id), childKey+"="+secret)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, id, cmd, in, bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	c.says("open")
	return c
}

func (c *child) says(want string) {
	c.t.Helper()
	if !c.said.Scan() || c.said.Text() != want {
		c.t.Fatalf("%s says %q, not %q", c.id, c.said.Text(), want)
	}
}

func (c *child) do(order, answer string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, order); err != nil {
		c.t.Fatal(err)
	}
	c.says(answer)
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// freeze returns once the process has stopped: until then it may answer.
func (c *child) freeze() {
	c.t.Helper()
	c.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// replica is this process's lifelines.
type replica struct {
	*Lifelines
	died chan election.ReplicaID
	stop func()
}

func id(n int) election.ReplicaID { return election.ReplicaID(fmt.Sprintf("%016x", n)) }

// run opens lifelines in this process. pidfds is whether it uses them where the kernel has them.
func run(t *testing.T, dir string, self election.ReplicaID, pidfds bool) *replica {
	t.Helper()
	return runBounded(t, dir, self, pidfds, handshakeBound, slog.New(slog.DiscardHandler))
}

// runBounded is run with another bound of a handshake.
func runBounded(t *testing.T, dir string, self election.ReplicaID, pidfds bool, bound time.Duration, logger *slog.Logger) *replica {
	t.Helper()
	r := &replica{died: make(chan election.ReplicaID, 100)}
	l, err := Open(Config{
		Dir: dir, Self: self, Secret: []byte("secret"), Logger: logger,
		Died: func(id election.ReplicaID) { r.died <- id },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !pidfds {
		l.processOf = func(*net.UnixConn) (*process, error) { return nil, nil } //nolint:nilnil // as an older kernel
	}
	l.bound = bound
	r.Lifelines = l
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		ended <- nil
	}
	t.Cleanup(r.stop)
	return r
}

// connected waits until there are lifelines to exactly these replicas.
func (r *replica) connected(t *testing.T, want ...election.ReplicaID) {
	t.Helper()
	for tick := time.NewTicker(time.Millisecond); ; {
		if slices.Equal(r.Connected(), want) {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case id := <-r.died:
			t.Fatalf("%s is reported dead", id)
		case <-t.Context().Done():
			t.Fatalf("connected to %v, not %v", r.Connected(), want)
		}
	}
}

// alone waits until this replica's socket is the only one in the folder: those of the dead are removed after the report.
func (r *replica) alone(t *testing.T, dir string) {
	t.Helper()
	for tick := time.NewTicker(time.Millisecond); ; {
		left, err := os.ReadDir(dir)
		if err == nil && len(left) == 1 {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("sockets of the dead are left: %v %v", left, err)
		}
	}
}

func (r *replica) reports(t *testing.T, want election.ReplicaID) {
	t.Helper()
	if got := <-r.died; got != want {
		t.Fatalf("%s is reported dead, not %s", got, want)
	}
}

func inBothWays(t *testing.T, f func(t *testing.T, pidfds bool)) {
	t.Helper()
	t.Run("pidfd", func(t *testing.T) { f(t, true) })
	t.Run("end of the connection", func(t *testing.T) { f(t, false) })
}

// dir is short: a socket's path has 108 bytes at most.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "life") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

func TestDeath(t *testing.T) {
	inBothWays(t, func(t *testing.T, pidfds bool) {
		d := dir(t)
		older := start(t, "replica", d, id(1), "secret")
		r := run(t, d, id(2), pidfds)
		newer := start(t, "replica", d, id(3), "secret")
		r.connected(t, id(1), id(3))
		older.do("meet two", "met") // a death before they have met goes unnoticed
		newer.signal(syscall.SIGKILL)
		r.reports(t, id(3))
		r.connected(t, id(1))
		older.says("died " + string(id(3)))
		older.signal(syscall.SIGKILL)
		r.reports(t, id(1))
		r.connected(t)
		r.alone(t, d)
	})
}

// BenchmarkDeath is from kill -9 of another process to the report of its death.
func BenchmarkDeath(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		d, err := os.MkdirTemp("", "life") //nolint:usetesting // b.TempDir is too long
		if err != nil {
			b.Fatal(err)
		}
		cmd, died := victim(b, d)
		b.StartTimer()
		if err := cmd.Process.Kill(); err != nil {
			b.Fatal(err)
		}
		<-died
		b.StopTimer()
		_ = cmd.Wait()
		_ = os.RemoveAll(d)
		b.StartTimer()
	}
}

// victim is another process with a lifeline to this one, and what tells of its death.
func victim(b *testing.B, dir string) (*exec.Cmd, <-chan election.ReplicaID) {
	b.Helper()
	died := make(chan election.ReplicaID, 1)
	l, err := Open(Config{
		Dir: dir, Self: id(1), Secret: []byte("secret"), Logger: slog.New(slog.DiscardHandler),
		Died: func(id election.ReplicaID) { died <- id },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childRole+"=replica", childDir+"="+dir, childID+"="+string(id(2)), childKey+"=secret")
	if _, err := cmd.StdinPipe(); err != nil { // it reads until it is killed
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for len(l.Connected()) == 0 {
		runtime.Gosched()
	}
	return cmd, died
}

func TestFrozenIsNotDead(t *testing.T) {
	inBothWays(t, func(t *testing.T, pidfds bool) {
		d := dir(t)
		frozen := start(t, "replica", d, id(1), "secret")
		killed := start(t, "replica", d, id(2), "secret")
		r := run(t, d, id(3), pidfds)
		r.connected(t, id(1), id(2))
		frozen.signal(syscall.SIGSTOP)
		killed.signal(syscall.SIGKILL)
		r.reports(t, id(2)) // and not id(1), before it
		r.connected(t, id(1))
		frozen.signal(syscall.SIGKILL)
		r.reports(t, id(1))
	})
}

// A process that stops in order closes its sockets before it has ended; its pidfd tells that it is still there.
func TestClosedIsNotDead(t *testing.T) {
	if ownIdentity() == 0 {
		t.Skip("the kernel has no pidfs")
	}
	d := dir(t)
	closed := start(t, "replica", d, id(1), "secret")
	killed := start(t, "replica", d, id(2), "secret")
	r := run(t, d, id(3), true)
	r.connected(t, id(1), id(2))
	closed.do("stop", "stopped")
	killed.signal(syscall.SIGKILL)
	r.reports(t, id(2))
	closed.signal(syscall.SIGKILL)
	r.reports(t, id(1))
}

// Without pidfds a connection that the garbage collector closed would be a death.
func TestCollectorClosesNothing(t *testing.T) {
	d := dir(t)
	living := start(t, "replica", d, id(1), "secret")
	killed := start(t, "replica", d, id(2), "secret")
	r := run(t, d, id(3), false)
	r.connected(t, id(1), id(2))
	living.do("collect", "collected")
	killed.signal(syscall.SIGKILL)
	r.reports(t, id(2))
	living.says("died " + string(id(2)))
	r.connected(t, id(1))
}

func TestForeignSecret(t *testing.T) {
	inBothWays(t, func(t *testing.T, pidfds bool) {
		d := dir(t)
		foreign := start(t, "replica", d, id(1), "another secret")
		r := run(t, d, id(2), pidfds)
		foreignToo := start(t, "replica", d, id(3), "another secret")
		ours := start(t, "replica", d, id(4), "secret")
		r.connected(t, id(4))
		foreign.signal(syscall.SIGKILL)
		foreignToo.signal(syscall.SIGKILL)
		ours.signal(syscall.SIGKILL)
		r.reports(t, id(4))
	})
}

// A process that passes the words of a replica on is not that replica.
func TestRelayedProof(t *testing.T) {
	if ownIdentity() == 0 {
		t.Skip("the kernel has no pidfs")
	}
	d := dir(t)
	genuine := start(t, "replica", d, "0000000000000001", "secret")
	start(t, "relay", d, "0000000000000001", "")
	r := run(t, d, id(2), true)
	r.connected(t, id(1)) // over its own socket
	conn, err := dial(t.Context(), filepath.Join(d, "f000000000000001"+suffix), handshakeBound)
	if err != nil {
		t.Fatal(err)
	}
	x := &line{conn: conn}
	r.add(x)
	if _, err := r.prove(x, "0000000000000001"); err == nil {
		t.Error("a relayed proof was taken")
	}
	r.drop(x)
	genuine.signal(syscall.SIGKILL)
	r.reports(t, id(1))
}

// A replica proves to be itself at its own socket alone: one that passes words on would stand there as another.
func TestASocketIsOfTheReplicaWhoseNameItHas(t *testing.T) {
	d := dir(t)
	start(t, "replica", d, "0000000000000001", "secret")
	start(t, "relay", d, "0000000000000001", "")
	r := run(t, d, id(2), false) // a relay is known by its process where there are pidfds
	r.connected(t, id(1))
	conn, err := dial(t.Context(), filepath.Join(d, "f000000000000001"+suffix), handshakeBound)
	if err != nil {
		t.Fatal(err)
	}
	x := &line{conn: conn}
	r.add(x)
	if _, err := r.prove(x, "f000000000000001"); !errors.Is(err, errProof) {
		t.Errorf("another replica's socket was taken: %v", err)
	}
	r.drop(x)
}

// A connection that cannot be read, for whatever reason but its end, proves nothing.
func TestOnlyTheEndOfAConnectionIsADeath(t *testing.T) {
	ends := func() (own, other *net.UnixConn) {
		sock, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir(t), "x"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer sock.Close()
		if own, err = dial(t.Context(), sock.Addr().String(), handshakeBound); err != nil {
			t.Fatal(err)
		}
		if other, err = sock.AcceptUnix(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = own.Close(), other.Close() })
		return own, other
	}
	for name, c := range map[string]struct {
		do   func(own, other *net.UnixConn) error
		dead bool
	}{
		"the other end is closed":      {func(_, other *net.UnixConn) error { return other.Close() }, true},
		"a deadline of its own passes": {func(own, _ *net.UnixConn) error { return own.SetDeadline(time.Unix(1, 0)) }, false},
		"the own end is closed":        {func(own, _ *net.UnixConn) error { return own.Close() }, false},
		"the other end writes":         {func(_, other *net.UnixConn) error { _, err := other.Write([]byte{1}); return err }, false},
		"the other end closes it, unread": {func(own, other *net.UnixConn) error {
			_, err := own.Write([]byte{1})
			return errors.Join(err, other.Close())
		}, true},
	} {
		own, other := ends()
		if err := c.do(own, other); err != nil {
			t.Fatal(err)
		}
		if err := (&line{conn: own}).over(); (err == nil) != c.dead {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A lifeline that cannot be watched is not shown as one.
func TestALineThatCannotBeWatchedIsNone(t *testing.T) {
	d := dir(t)
	start(t, "replica", d, id(1), "secret")
	r := run(t, d, id(2), false)
	r.connected(t, id(1))
	for tick := time.NewTicker(time.Millisecond); len(r.Connected()) > 0; <-tick.C { // each may have connected to the other
		r.mu.Lock()
		for x := range r.lines {
			if err := x.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		}
		r.mu.Unlock()
	}
	select {
	case id := <-r.died:
		t.Errorf("%s is reported dead", id)
	default:
	}
}

// A replica that is frozen when another starts has a lifeline to it once it runs again.
func TestAFrozenReplicaIsTriedAgain(t *testing.T) {
	inBothWays(t, func(t *testing.T, pidfds bool) {
		d := dir(t)
		frozen := start(t, "replica", d, id(1), "secret")
		frozen.freeze()
		failed := make(lines, 100)
		r := runBounded(t, d, id(2), pidfds, 200*time.Millisecond, slog.New(slog.NewTextHandler(failed, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for !strings.Contains(<-failed, "no lifeline") {
		}
		frozen.signal(syscall.SIGCONT)
		r.connected(t, id(1))
		frozen.signal(syscall.SIGKILL)
		r.reports(t, id(1))
	})
}

// lines are what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // enough is known
	}
	return len(p), nil
}

func TestRefusedConnectionProvesNothing(t *testing.T) {
	d := dir(t)
	abandon := func(n int, age time.Duration) string {
		path := filepath.Join(d, string(id(n))+suffix)
		sock, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		sock.SetUnlinkOnClose(false)
		_ = sock.Close()
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fresh, old := abandon(1, 0), abandon(2, 25*time.Hour)
	living := start(t, "replica", d, id(3), "secret")
	r := run(t, d, id(4), true)
	r.connected(t, id(3))
	living.signal(syscall.SIGKILL)
	r.reports(t, id(3))
	r.stop() // all that it dialled is over
	if _, err := os.Lstat(fresh); err != nil {
		t.Error("a socket that may be another machine's was removed at once")
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("a socket that was left behind a day ago is still there")
	}
}

// A connection that fails for another reason proves nothing of the socket: its replica may live, and be found by others.
func TestOnlyASocketThatRefusesIsRemoved(t *testing.T) {
	d := dir(t)
	r := run(t, d, id(1), true)
	path := filepath.Join(d, string(id(1))+suffix)
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dial(ctx, path, handshakeBound); err == nil {
		t.Error("connected")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of a living replica was removed: %v", err)
	}
	r.stop()
}

func TestAllMeetWhoeverStartsFirst(t *testing.T) {
	d := dir(t)
	const n = 12
	all := make([]*replica, n)
	var ids []election.ReplicaID
	for i := range all {
		ids = append(ids, id(i))
	}
	for i := range all {
		all[i] = run(t, d, id(i), true)
	}
	for i, r := range all {
		r.connected(t, slices.DeleteFunc(slices.Clone(ids), func(x election.ReplicaID) bool { return x == id(i) })...)
	}
}

// A newcomer that says nothing must not keep those that come after it waiting, nor become a lifeline.
func TestSilentNewcomer(t *testing.T) {
	d := dir(t)
	r := run(t, d, id(1), true)
	silent, err := dial(t.Context(), filepath.Join(d, string(id(1))+suffix), handshakeBound)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other := start(t, "replica", d, id(2), "secret")
	r.connected(t, id(2))
	other.kill()
	r.reports(t, id(2))
}

func TestNoMoreThanTheBound(t *testing.T) {
	r := run(t, dir(t), id(1), true)
	r.mu.Lock()
	for range maxLines {
		r.lines[&line{}] = ""
	}
	r.mu.Unlock()
	if r.add(&line{}) {
		t.Errorf("more than %d connections are kept", maxLines)
	}
	r.mu.Lock()
	clear(r.lines)
	r.mu.Unlock()
}

// SELinux, say: one line tells of it, not one for each socket.
func TestConnectingThatIsNotAllowedIsOneWarning(t *testing.T) {
	var logs strings.Builder
	l := &Lifelines{cfg: Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))}}
	l.failed("a", fmt.Errorf("connect: %w", syscall.ECONNREFUSED))
	for range 3 {
		l.failed("b", fmt.Errorf("connect: %w", syscall.EACCES))
	}
	if got := logs.String(); strings.Count(got, "msg=") != 1 || !strings.Contains(got, "level=WARN") {
		t.Errorf("logged %s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"a folder that does not exist": {Dir: "/does/not/exist", Self: id(1), Secret: []byte("secret")},
		"an id that is a path":         {Dir: dir(t), Self: "../../../../etc/x", Secret: []byte("secret")},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// wire is one direction of a connection.
type wire chan byte

func (w wire) Write(p []byte) (int, error) {
	for _, b := range p {
		w <- b
	}
	return len(p), nil
}

func (w wire) Read(p []byte) (int, error) {
	b, ok := <-w
	if !ok {
		return 0, io.EOF
	}
	p[0] = b
	return 1, nil
}

// A proof is for one connection, one side of it, and another replica. Both processes have one identity here, or none: the weakest case.
func TestAProofIsGoodOnce(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	commit := func() error { return nil }
	for name, process := range map[string]uint64{"with pidfs": 7, "without": 0} {
		// connect has a dialer and a listener prove themselves to each other; said is what the dialer has sent.
		connect := func(dialer, listener election.ReplicaID) (said string, dialing, listening error) {
			var heard strings.Builder
			there, back := make(wire, 1024), make(wire, 1024)
			ended := make(chan error, 1)
			go func() {
				_, err := handshake(pipe{there, back}, key, listener, "", process, process, commit)
				close(back) // one that refuses closes the connection
				ended <- err
			}()
			_, dialing = handshake(pipe{back, io.MultiWriter(there, &heard)}, key, dialer, listener, process, process, commit)
			return heard.String(), dialing, <-ended
		}
		said, dialing, listening := connect(id(1), id(2))
		if dialing != nil || listening != nil {
			t.Fatalf("%s: members refuse each other: %v, %v", name, dialing, listening)
		}
		if _, err := handshake(pipe{strings.NewReader(said), io.Discard}, key, id(2), "", process, process, commit); !errors.Is(err, errProof) {
			t.Errorf("%s: what was said on another connection passes: %v", name, err)
		}
		echo := make(wire, 1024)
		if _, err := handshake(pipe{echo, echo}, key, id(1), id(1), process, process, commit); !errors.Is(err, errProof) {
			t.Errorf("%s: an echo passes for a replica: %v", name, err)
		}
		if _, dialing, listening := connect(id(1), id(1)); dialing == nil || !errors.Is(listening, errProof) {
			t.Errorf("%s: a replica that is put through to itself passes for another: %v, %v", name, dialing, listening)
		}
	}
}

// pipe is both directions of a connection as what one side reads and what it writes.
type pipe struct {
	io.Reader
	io.Writer
}

func FuzzHandshake(f *testing.F) {
	f.Add(hello{id: id(2), bound: true}.bytes(), true)
	f.Add(append(hello{id: id(2)}.bytes(), make([]byte, 32)...), false)
	f.Fuzz(func(t *testing.T, input []byte, dials bool) {
		whose := map[bool]election.ReplicaID{true: id(2)}[dials]
		who, err := handshake(pipe{strings.NewReader(string(input)), io.Discard}, make([]byte, 32), id(1), whose, 1, 2, func() error { return nil })
		if err == nil {
			t.Errorf("a stranger passes for %s", who)
		}
	})
}
