package config_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/config"
	"habot/app/relay"
)

const (
	token      = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQ-_"
	otherToken = "123456789:habot_and_the_copies_know_it_alone-"
	// phrase is long enough for an ADMIN_TOKEN, but no cluster secret.
	phrase = "correct horse battery staple"
	secret = "UtCsjPNmx+wChid/KTCcAHs+J4ADYG7o83V7GE+/dfc="
	older  = "683ad0971e816fb2139a418fd25babbc5eee83e7c98fad9b7e3565050810678f"
)

// files is a file system that fits in a table.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func mustLoad(t *testing.T, f files, environ ...string) config.Config {
	t.Helper()
	cfg, err := config.Load(environ, f.read)
	if err != nil {
		t.Fatalf("Load(%q): %v", environ, err)
	}
	return cfg
}

func problems(t *testing.T, f files, environ ...string) config.Problems {
	t.Helper()
	cfg, err := config.Load(environ, f.read)
	if err == nil {
		t.Fatalf("Load(%q) accepted it", environ)
	}
	p, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("Load(%q): the error is a %T, not Problems", environ, err)
	}
	if !reflect.DeepEqual(cfg, config.Config{}) {
		t.Errorf("Load(%q): a refused configuration was returned all the same", environ)
	}
	return p
}

func TestNothingSetIsTheDemoOfThree(t *testing.T) {
	t.Setenv("REPLICAS", "7") // not handed to Load, so not read
	for _, environ := range [][]string{nil, {}, {"BOT_TOKEN=", "MODE=", "REPLICAS= ", "TELEGRAM_API_URL=", "LEASE=", "ADMIN_CHAT_IDS="}} {
		got := mustLoad(t, nil, environ...)
		want := config.Config{
			Token: config.DemoToken, Demo: true, APIURL: "http://telegram:8081", Mode: config.ModePrimaryBackup,
			Replicas: 3, Instances: []string{"bot"}, Quorum: 0, Lease: 550 * time.Millisecond, LeavePatience: 5 * time.Second,
			ClusterSecrets: got.ClusterSecrets, OperatorKey: got.OperatorKey, PeerAddr: ":7175", HTTPAddr: ":8080", LifelineDir: "/run/habot", LogLevel: slog.LevelInfo,
			SimulatorAddr: ":8081", SimulatorRate: 2, SimulatorChats: 5, BackendParallel: 40, BackendTimeout: time.Minute,
			GatewayAddr: ":8082", GatewayToken: config.DemoToken, GatewayPatience: 90 * time.Second, GatewayReplay: 30 * time.Second,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Load(%q) = %+v, want %+v", environ, got, want)
		}
	}
}

func TestEveryVariableReachesItsField(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, nil,
		"BOT_TOKEN="+token, "TELEGRAM_API_URL=http://api.local:8081/telegram/", "MODE=primary-backup", "REPLICAS=5",
		"INSTANCES=bot, 10.0.0.7:7175,,[fd00::7]:7175,fd00::8,other.example.org", "QUORUM=4", "LEASE=1500ms", "LEAVE_PATIENCE=2500ms",
		"CLUSTER_SECRET="+secret, "PEER_ADDR=127.0.0.1:1", "HTTP_ADDR=[::1]:65535", "LIFELINE_DIR=/run/other", "REPLICA_NAME=habot-bot_2.example",
		"ADMIN_CHAT_IDS=5, -1001234567890,5,", "ADMIN_TOKEN="+phrase, "LOG_LEVEL=DEBUG", "LOG_FORMAT=json",
		"SIMULATOR_ADDR=localhost:99", "SIMULATOR_RATE=0.5", "SIMULATOR_CHATS=1000", "SIMULATOR_PROJECT=my_bot-2", "SIMULATOR_REHEARSAL=true", "BACKEND=http://mybot:8000/hook, https://other/h",
		"BACKEND_SECRET=s-3_cret", "BACKEND_UPDATES=message, message_reaction,message", "BACKEND_PARALLEL=7", "BACKEND_TIMEOUT=1500ms",
		"GATEWAY_ADDR=127.0.0.1:99", "GATEWAY_TOKEN="+otherToken, "GATEWAY_PATIENCE=2m", "GATEWAY_REPLAY=0s")
	backends, err := relay.ParseBackends("http://mybot:8000/hook,https://other/h")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Token: token, APIURL: "http://api.local:8081/telegram", Mode: config.ModePrimaryBackup, Replicas: 5,
		Instances: []string{"bot", "10.0.0.7:7175", "[fd00::7]:7175", "fd00::8", "other.example.org"}, Quorum: 4,
		Lease: 1500 * time.Millisecond, LeavePatience: 2500 * time.Millisecond, ClusterSecrets: [][]byte{[]byte(secret)}, PeerAddr: "127.0.0.1:1", HTTPAddr: "[::1]:65535", LifelineDir: "/run/other",
		Warnings: []string{"TELEGRAM_API_URL=http://api.local:8081 is not encrypted: the token travels in clear text to a host that is not this one; use https",
			"GATEWAY_TOKEN has no effect: BACKEND is not gateway"},
		ReplicaName: "habot-bot_2.example", AdminChatIDs: []int64{5, -1001234567890}, AdminToken: phrase, OperatorKey: got.OperatorKey,
		LogLevel: slog.LevelDebug, LogJSON: true, SimulatorAddr: "localhost:99", SimulatorRate: 0.5, SimulatorChats: 1000, SimulatorProject: "my_bot-2", SimulatorRehearsal: true,
		Backends: backends, BackendSecret: "s-3_cret", BackendUpdates: []string{"message", "message_reaction"}, BackendParallel: 7,
		BackendTimeout: 1500 * time.Millisecond,
		GatewayAddr:    "127.0.0.1:99", GatewayToken: otherToken, GatewayPatience: 2 * time.Minute,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAnEmptyLifelineDirMeansNoLifelines(t *testing.T) {
	t.Parallel()
	if got := mustLoad(t, nil, "LIFELINE_DIR="); got.LifelineDir != "" {
		t.Errorf("LIFELINE_DIR= is %q", got.LifelineDir)
	}
}

func TestAWitnessNeedsASecretAndNoToken(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, nil, "WITNESS=true", "CLUSTER_SECRET="+secret, "ADMIN_CHAT_IDS=5", "BACKEND=http://mybot:8000/hook", "HTTPS_PROXY=http://10.0.0.5:3128", "TELEGRAM_API_URL=http://api.local",
		"GATEWAY_TOKEN="+otherToken)
	if !got.Witness || got.Token != "" || got.GatewayToken != "" || got.Demo || got.APIURL != "" || got.Proxy != nil || got.Backends != nil || got.AdminChatIDs != nil {
		t.Errorf("a witness has a way to Telegram, to backends or to chats: %+v", got)
	}
	if want := mustLoad(t, nil, "BOT_TOKEN="+token, "CLUSTER_SECRET="+secret); !reflect.DeepEqual(got.ClusterSecrets, want.ClusterSecrets) || got.OperatorKey != want.OperatorKey {
		t.Error("a witness is of another cluster than a replica with the same secret")
	}
	if config.Demo([]string{"WITNESS=true"}) || !config.Demo([]string{"WITNESS=false"}) {
		t.Error("a witness without a token is taken for the demo, or another replica is not")
	}
	for _, c := range []struct {
		set  string
		want []string
	}{
		{"BOT_TOKEN=" + token + " CLUSTER_SECRET=" + secret, []string{"BOT_TOKEN is not accepted: WITNESS=true is set too, and a witness has no token; unset BOT_TOKEN here, or unset WITNESS"}},
		{"BOT_TOKEN_FILE=/x CLUSTER_SECRET=" + secret, []string{"BOT_TOKEN_FILE is not accepted: WITNESS=true is set too"}},
		{"BOT_TOKEN=" + token, []string{"BOT_TOKEN is not accepted: WITNESS=true is set too", "CLUSTER_SECRET is not accepted: it is not set, and WITNESS=true needs it, for a witness has no token to derive it from; set the same here and in all replicas: at least 32 random bytes"}},
		{"CLUSTER_SECRET_FILE=/missing", []string{"CLUSTER_SECRET_FILE is not accepted: the name of a readable file"}},
		{"REPLICAS=1 CLUSTER_SECRET=" + secret, []string{`WITNESS="true" is not accepted: with REPLICAS=1 there is no replica that could be primary; set REPLICAS to the number of all replicas, this one included`}},
		{"MODE=bot-only REPLICAS=1 CLUSTER_SECRET=" + secret, []string{`WITNESS="true" is not accepted: a witness votes, and MODE=bot-only has no election; set MODE=primary-backup`}},
		{"MYTOKEN=" + token + " CLUSTER_SECRET=" + secret, nil},
		{"BACKEND=gateway GATEWAY_TOKEN=" + otherToken + " CLUSTER_SECRET=" + secret, nil}, // of an .env that serves all machines
		{"BACKEND=gateway GATEWAY_TOKEN=hunter2 CLUSTER_SECRET=" + secret, []string{"GATEWAY_TOKEN is not accepted: "}},
	} {
		environ := append(strings.Fields(c.set), "WITNESS=true")
		if c.want == nil {
			mustLoad(t, nil, environ...)
			continue
		}
		got := problems(t, nil, environ...)
		if len(got) != len(c.want) {
			t.Fatalf("%s: %q, want %d lines", c.set, got, len(c.want))
		}
		for i, want := range c.want {
			if !strings.HasPrefix(got[i], want) || strings.Contains(got[i], token) {
				t.Errorf("%s: %q, want %q", c.set, got[i], want)
			}
		}
	}
}

func TestATokenMeansTheRealTelegram(t *testing.T) {
	t.Parallel()
	if got := mustLoad(t, nil, "BOT_TOKEN="+token); got.Demo || got.APIURL != "https://api.telegram.org" {
		t.Errorf("Demo %t, APIURL %s", got.Demo, got.APIURL)
	}
	if got := mustLoad(t, nil, "BOT_TOKEN="+config.DemoToken); !got.Demo || got.APIURL != "http://telegram:8081" {
		t.Errorf("the demo's token, set: Demo %t, APIURL %s", got.Demo, got.APIURL)
	}
}

func TestAcceptedValues(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"LEAVE_PATIENCE=0", "LEAVE_PATIENCE=0s", "LEAVE_PATIENCE=16s", "LEASE=200ms", "LEASE=60s", "LEASE=1m", "REPLICAS=1", "REPLICAS=49", "REPLICAS=50", "QUORUM=1", "QUORUM=3", "QUORUM=majority",
		"MODE=bot-only", "LOG_LEVEL=warn", "LOG_LEVEL=error", "LOG_FORMAT=text", "SIMULATOR_RATE=0", "SIMULATOR_RATE=1000",
		"SIMULATOR_CHATS=1", "ADMIN_CHAT_IDS=,", "ADMIN_CHAT_IDS=" + strings.Repeat("7,", 30), "REPLICA_NAME=" + strings.Repeat("n", 64),
		"ADMIN_TOKEN=" + strings.Repeat("s", 16),
		"TELEGRAM_API_URL=https://[fd00::1]:8443", "TELEGRAM_API_URL=http://telegram", "INSTANCES=bot", "INSTANCES=::1", "INSTANCES=[::1]",
		"INSTANCES=[::1]:7175", "INSTANCES=10.0.0.1", "INSTANCES=a.b.c:65535", "INSTANCES=tasks.my_bot",
		"INSTANCES=" + strings.Repeat("bot,", 64), "HTTP_ADDR=0.0.0.0:8080", "PEER_ADDR=[::]:7175", "HTTP_ADDR=127.0.0.1:8080",
		"BOT_TOKEN=" + token, "BOT_TOKEN=1:" + strings.Repeat("_", 35),
	} {
		mustLoad(t, nil, set)
	}
}

// Each refused value is reported in one line, with the variable first and what is accepted.
func TestARefusedValueIsOneLineThatSaysWhatIsAccepted(t *testing.T) {
	t.Parallel()
	const (
		duration  = "200ms..60s"
		address   = "host:port or :port, port 1..65535"
		instances = "a comma-separated list of host or host:port, at most 64"
		chats     = "a comma-separated list of chat ids (whole numbers, not 0), at most 20"
		server    = "http://host[:port] or https://host[:port]"
		bytes     = "at least 16 bytes"
		name      = "1 to 64 of A-Z a-z 0-9 . _ -"
		webhook   = "builtin, gateway, or http://host[:port][/path] or https://..., or a comma-separated list of at most 16 of them"
		updates   = "a comma-separated list of kinds of updates as Telegram names them"
		botToken  = "a token from BotFather: digits, a colon, 35 of A-Z a-z 0-9 _ -"
	)
	cases := []struct{ set, accepted string }{
		{"LEASE=5", duration}, {"LEASE=199ms", duration}, {"LEASE=60001ms", duration}, {"LEASE=-1s", duration},
		{"LEAVE_PATIENCE=31s", "up to 16s"}, {"LEAVE_PATIENCE=31s", "grace period, stop_grace_period, 30s"}, {"LEAVE_PATIENCE=16001ms", "up to 16s"},
		{"LEAVE_PATIENCE=-1s", "0, or a duration"}, {"LEAVE_PATIENCE=5", "0, or a duration"}, {"LEAVE_PATIENCE=long", "0, or a duration"},
		{"LEASE=0", duration}, {"LEASE=soon", duration}, {"LEASE=9999999h", duration},
		{"REPLICAS=0", "1..50"}, {"REPLICAS=-3", "1..50"}, {"REPLICAS=51", "1..50"}, {"REPLICAS=three", "1..50"},
		{"REPLICAS=3.0", "1..50"}, {"REPLICAS=99999999999999999999", "1..50"},
		{"QUORUM=4", "majority, or a whole number, 1..3"}, {"QUORUM=0", "1..3"}, {"QUORUM=-1", "1..3"}, {"QUORUM=all", "majority"},
		{"WITNESS=yes", "true or false"}, {"WITNESS=TRUE", "true or false"},
		{"MODE=x", "primary-backup or bot-only"}, {"MODE=Bot-Only", "primary-backup or bot-only"},
		{"INSTANCES=", instances}, {"INSTANCES= ", instances}, {"INSTANCES=, ,", instances}, {"INSTANCES=http://bot", instances},
		{"INSTANCES=bot:", instances}, {"INSTANCES=bot:0", instances}, {"INSTANCES=bot:65536", instances}, {"INSTANCES=bot:+80", instances},
		{"INSTANCES=bot other", instances}, {"INSTANCES=-bot", instances}, {"INSTANCES=[[::1", instances}, {"INSTANCES=[bot]", instances},
		{"INSTANCES=" + strings.Repeat("bot,", 65), instances},
		{"PEER_ADDR=7175", address}, {"PEER_ADDR=:0", address}, {"PEER_ADDR=bot:", address}, {"PEER_ADDR=:65536", address},
		{"LIFELINE_DIR=run/habot", "an absolute path of at most 80 bytes"}, {"LIFELINE_DIR=/" + strings.Repeat("x", 80), "an absolute path of at most 80 bytes"},
		{"PEER_ADDR=:http", address}, {"HTTP_ADDR=::1:80", address}, {"HTTP_ADDR=:+80", address}, {"HTTP_ADDR=a b:80", address},
		{"HTTP_ADDR=http://x:80", address}, {"SIMULATOR_ADDR=8081", address}, {"HTTP_ADDR=:7175", "another port than PEER_ADDR's"},
		{"REPLICA_NAME=a b", name}, {"REPLICA_NAME=" + strings.Repeat("n", 65), name}, {"REPLICA_NAME=ä", name},
		{"ADMIN_CHAT_IDS=0", chats}, {"ADMIN_CHAT_IDS=@me", chats}, {"ADMIN_CHAT_IDS=1;2", chats}, {"ADMIN_CHAT_IDS=1.5", chats},
		{"ADMIN_CHAT_IDS=9223372036854775808", chats}, {"ADMIN_CHAT_IDS=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21", chats},
		{"LOG_LEVEL=verbose", "debug, info, warn or error"}, {"LOG_FORMAT=logfmt", "text or json"},
		{"SIMULATOR_RATE=-1", "0..1000"}, {"SIMULATOR_RATE=1001", "0..1000"}, {"SIMULATOR_RATE=NaN", "0..1000"},
		{"SIMULATOR_RATE=inf", "0..1000"}, {"SIMULATOR_RATE=fast", "0..1000"}, {"SIMULATOR_CHATS=0", "1..1000"}, {"SIMULATOR_CHATS=1001", "1..1000"}, {"SIMULATOR_PROJECT=a b", "Compose project"}, {"SIMULATOR_PROJECT=$(reboot)", "Compose project"},
		{"SIMULATOR_REHEARSAL=yes", "true or false"},
		{"TELEGRAM_API_URL=api.telegram.org", server}, {"TELEGRAM_API_URL=ftp://x", server}, {"TELEGRAM_API_URL=http://", server},
		{"TELEGRAM_API_URL=http://:80", server}, {"TELEGRAM_API_URL=http://x:99999", server}, {"TELEGRAM_API_URL=http://x?", server},
		{"TELEGRAM_API_URL=http://x#", server}, {"TELEGRAM_API_URL=http://x/?a=b", server}, {"TELEGRAM_API_URL=http://u:p@x", server},
		{"TELEGRAM_API_URL=http://x/%zz", server},
		{"BOT_TOKEN=123456789", botToken}, {"BOT_TOKEN=" + token[:len(token)-1], botToken}, {"BOT_TOKEN=" + token + "x", botToken},
		{"BOT_TOKEN=bot" + token, botToken}, {"BOT_TOKEN=:" + strings.Repeat("a", 35), botToken},
		{"ADMIN_TOKEN=" + phrase[:15], bytes},
		{"BACKEND=mybot:8000", webhook}, {"BACKEND=ftp://mybot", webhook}, {"BACKEND=http://", webhook}, {"BACKEND=http://mybot:99999", webhook},
		{"BACKEND=Builtin", webhook}, {"BACKEND=GATEWAY", webhook}, {"BACKEND=gateway,gateway", "gateway stands alone"}, {"BACKEND=,", webhook}, {"BACKEND=builtin,http://mybot", "builtin stands alone"}, {"BACKEND=http://mybot,gateway", "gateway stands alone"},
		{"GATEWAY_ADDR=8082", address}, {"GATEWAY_PATIENCE=5s", "10s..10m"}, {"GATEWAY_PATIENCE=90", "10s..10m"}, {"GATEWAY_PATIENCE=11m", "10s..10m"},
		{"GATEWAY_REPLAY=-1s", "0s..10m"}, {"GATEWAY_REPLAY=11m", "0s..10m"}, {"GATEWAY_REPLAY=off", "0s..10m"},
		{"GATEWAY_TOKEN=hunter2", "the number before BOT_TOKEN's colon"}, {"GATEWAY_TOKEN=1" + token, "the number before BOT_TOKEN's colon"},
		{"GATEWAY_TOKEN=" + config.DemoToken, "that are not BOT_TOKEN's"},
		{"BACKEND=http://user:hunter2@mybot/", "use BACKEND_SECRET"}, {"BACKEND=" + strings.Repeat("http://mybot:8000,", 3) + "http://x/#y", "entry 4"},
		{"BACKEND_SECRET=two words", "what Telegram accepts as secret_token"}, {"BACKEND_SECRET=ümlaut", "1 to 256 of"}, {"BACKEND_SECRET=a:b", "1 to 256 of"}, {"BACKEND_SECRET=pass.word", "1 to 256 of"}, {"BACKEND_SECRET=" + strings.Repeat("s", 257), "1 to 256 of"},
		{"BACKEND_UPDATES=Message", updates}, {"BACKEND_UPDATES=message;poll", updates}, {"BACKEND_PARALLEL=0", "1..100"},
		{"BACKEND_PARALLEL=101", "1..100"}, {"BACKEND_TIMEOUT=60", "1s..10m"}, {"BACKEND_TIMEOUT=0s", "1s..10m"}, {"BACKEND_TIMEOUT=1h", "1s..10m"},
	}
	for _, c := range cases {
		p := problems(t, nil, c.set)
		variable, _, _ := strings.Cut(c.set, "=")
		if len(p) != 1 || !isAbout(p[0], variable) || !strings.Contains(p[0], c.accepted) {
			t.Errorf("%s: got %q, want one line about %s that says %q", c.set, p, variable, c.accepted)
		}
	}
}

func isAbout(line, variable string) bool {
	return (strings.HasPrefix(line, variable+"=") || strings.HasPrefix(line, variable+" is not accepted: ")) && !strings.ContainsAny(line, "\r\n")
}

func TestTheRefusedValueIsShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, shown string }{
		{"LEASE=5", `LEASE="5" is not accepted: `},
		{"INSTANCES=bot, b\nad ,bot", `INSTANCES="b\nad" is not accepted: `},
		{"REPLICA_NAME=" + strings.Repeat("n", 500), `REPLICA_NAME="` + strings.Repeat("n", 80) + `..." is not accepted: `},
		{"TELEGRAM_API_URL=ftp://x:1/y", `TELEGRAM_API_URL="ftp://x:1" is not accepted: `},
		{"TELEGRAM_API_URL=api.telegram.org", `TELEGRAM_API_URL="api.telegram.org" is not accepted: http`},
		{"TELEGRAM_API_URL=localhost:8081/x", `TELEGRAM_API_URL="localhost:8081" is not accepted: http`},
		{"TELEGRAM_API_URL=u:p@host", `TELEGRAM_API_URL is not accepted: http`},
	} {
		if p := problems(t, nil, c.set); len(p) != 1 || !strings.HasPrefix(p[0], c.shown) {
			t.Errorf("%s: got %q, want %s...", c.set, p, c.shown)
		}
	}
}

func TestEachProblemIsALineAndNothingElseIsBlamed(t *testing.T) {
	t.Parallel()
	p := problems(t, nil, "REPLICAS=0", "QUORUM=2", "LEASE=5", "MODE=x", "INSTANCES=a b,bot,c d", "BOT_TOKEN=nonsense", "LOG_LEVEL=info")
	var about []string
	for line := range strings.SplitSeq(p.Error(), "\n") {
		variable, _, _ := strings.Cut(strings.Replace(line, " ", "=", 1), "=")
		about = append(about, variable)
	}
	slices.Sort(about)
	if want := []string{"BOT_TOKEN", "INSTANCES", "INSTANCES", "LEASE", "MODE", "REPLICAS"}; !slices.Equal(about, want) {
		t.Errorf("lines about %v, want %v:\n%v", about, want, p)
	}
}

func TestASecretMayComeFromAFile(t *testing.T) {
	t.Parallel()
	f := files{"/run/token": "\n " + token + "\r\n", "/run/cluster": secret + "\n", "/run/admin": phrase + "\n", "/run/backend": "s-3_cret\r\n"}
	got := mustLoad(t, f, "BOT_TOKEN_FILE=/run/token", "CLUSTER_SECRET_FILE=/run/cluster", "ADMIN_TOKEN_FILE=/run/admin", "BACKEND=http://mybot", "BACKEND_SECRET_FILE=/run/backend")
	if got.BackendSecret != "s-3_cret" {
		t.Errorf("the backends' secret is %q", got.BackendSecret)
	}
	if got.Token != token || got.Demo || !reflect.DeepEqual(got.ClusterSecrets, [][]byte{[]byte(secret)}) || got.AdminToken != phrase {
		t.Errorf("got token %q, cluster secrets %q, admin token %q", got.Token, got.ClusterSecrets, got.AdminToken)
	}
}

// Editors on Windows put a byte order mark in front of what they save.
func TestAByteOrderMarkIsNoPartOfASecret(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	f := files{"/run/token": mark + token + "\r\n", "/run/cluster": mark + " " + secret, "/run/admin": mark + phrase}
	got := mustLoad(t, f, "BOT_TOKEN_FILE=/run/token", "CLUSTER_SECRET_FILE=/run/cluster", "ADMIN_TOKEN_FILE=/run/admin")
	if got.Token != token || !reflect.DeepEqual(got.ClusterSecrets, [][]byte{[]byte(secret)}) || got.AdminToken != phrase {
		t.Errorf("got token %q, cluster secrets %q, admin token %q", got.Token, got.ClusterSecrets, got.AdminToken)
	}
	if got := mustLoad(t, nil, "BOT_TOKEN="+mark+token); got.Token != token {
		t.Errorf("in .env: token %q", got.Token)
	}
	p := problems(t, files{"/empty": mark + "\n"}, "BOT_TOKEN_FILE=/empty")
	if len(p) != 1 || !isAbout(p[0], "BOT_TOKEN_FILE") || !strings.Contains(p[0], "not empty") {
		t.Errorf("a file with a mark alone: %q", p)
	}
}

// A stranger who reaches the replicas' port can test guesses of the cluster secret: only a generated one withstands.
func TestTheClusterSecretIsAGeneratedOne(t *testing.T) {
	t.Parallel()
	const (
		url    = "CWt2sUrS6aUAtqscdGYfE_MLmX4eN6lnI-1O1AJYzUA" // RFC 4648 section 5, without padding
		long   = "tL/37oBcs2VLLqfJBHYGczRQ1WVOul6xT9igV9YlwPETc98cPDkpwJDnmUqlCDkBn5+xFPmV1ktI3T3VPmc="
		lines  = "tL/37oBcs2VLLqfJBHYGczRQ1WVOul6xT9igV9YlwPETc98cPDkpwJDnmUqlCDkB\nn5+xFPmV1ktI3T3VPmc="
		demand = "at least 32 random bytes as base64 or hex"
	)
	for _, s := range []string{secret, strings.TrimRight(secret, "="), url, url + "=", older, strings.ToUpper(older), long} {
		if got := mustLoad(t, nil, "CLUSTER_SECRET="+s); !reflect.DeepEqual(got.ClusterSecrets, [][]byte{[]byte(s)}) {
			t.Errorf("%s: %q", s, got.ClusterSecrets)
		}
	}
	if got := mustLoad(t, files{"/s": lines + "\n"}, "CLUSTER_SECRET_FILE=/s"); !reflect.DeepEqual(got.ClusterSecrets, [][]byte{[]byte(lines)}) {
		t.Errorf("as openssl writes 62 bytes: %q", got.ClusterSecrets)
	}
	for _, s := range []string{
		"x", phrase, "correcthorsebattery", strings.Repeat("correcthorsebatterystaple", 4), strings.Repeat("0123456789", 7), strings.Repeat("a", 64),
		strings.Repeat("Ab1/", 16), strings.Repeat("0", 64), older[:62], older + "0", secret[:40], "~" + secret, secret + "!", secret + " " + secret,
		secret + "," + phrase, phrase + "," + secret, secret + ",", "," + secret, secret + "," + older + "," + url, secret + "," + secret,
	} {
		p := problems(t, nil, "CLUSTER_SECRET="+s)
		if len(p) != 1 || !isAbout(p[0], "CLUSTER_SECRET") || !strings.Contains(p[0], demand) || !strings.Contains(p[0], "openssl rand -base64 32") {
			t.Errorf("%s: got %q", s, p)
		}
		if len(s) > 8 && strings.Contains(p[0], s[:8]) {
			t.Errorf("%s is shown: %q", s, p)
		}
	}
}

func TestASecondClusterSecretIsForRotation(t *testing.T) {
	t.Parallel()
	want := [][]byte{[]byte(secret), []byte(older)}
	for _, s := range []string{secret + "," + older, secret + " , " + older} {
		if got := mustLoad(t, nil, "CLUSTER_SECRET="+s); !reflect.DeepEqual(got.ClusterSecrets, want) {
			t.Errorf("%q: %q", s, got.ClusterSecrets)
		}
	}
	if got := mustLoad(t, files{"/s": secret + ",\n" + older + "\n"}, "CLUSTER_SECRET_FILE=/s"); !reflect.DeepEqual(got.ClusterSecrets, want) {
		t.Errorf("a file: %q", got.ClusterSecrets)
	}
}

// Swarm fills the template in; Compose hands it on as it is written. A service in global mode has no slots.
func TestAStackNamesItsReplicas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set   []string
		name  string
		stack bool
	}{
		{[]string{"SWARM_TASK=habot_bot.2"}, "habot_bot.2", true},
		{[]string{"SWARM_TASK=habot_bot.2", "REPLICA_NAME=alpha"}, "alpha", true},
		{[]string{"SWARM_TASK={{.Service.Name}}.{{.Task.Slot}}"}, "", false},
		{[]string{"SWARM_TASK={{.Service.Name}}.{{.Task.Slot}}", "REPLICA_NAME=alpha"}, "alpha", false},
		{[]string{"SWARM_TASK=habot_bot.0"}, "", true},
		{[]string{"SWARM_TASK=" + strings.Repeat("n", 63) + ".2"}, "", true},
		{[]string{"SWARM_TASK="}, "", false},
		{nil, "", false},
	} {
		if got := mustLoad(t, nil, c.set...); got.ReplicaName != c.name || got.Stack != c.stack {
			t.Errorf("%q: name %q, stack %t", c.set, got.ReplicaName, got.Stack)
		}
	}
}

func TestABadSecretFileIsOneLine(t *testing.T) {
	t.Parallel()
	f := files{"/empty": "", "/blank": " \n", "/good": token, "/secret": secret, "/short": "short", "/junk": "not a token", "/spaces": "two words", "/utf16": "\xff\xfe1\x002\x00", "/utf16be": "\xfe\xff\x001\x002"}
	for _, c := range []struct {
		about, says string
		set         []string
	}{
		{"BOT_TOKEN_FILE", "file does not exist", []string{"BOT_TOKEN_FILE=/missing"}},
		{"CLUSTER_SECRET_FILE", "file does not exist", []string{"CLUSTER_SECRET_FILE=/missing"}},
		{"ADMIN_TOKEN_FILE", "file does not exist", []string{"ADMIN_TOKEN_FILE=/missing"}},
		{"BOT_TOKEN_FILE", "a file that is not empty", []string{"BOT_TOKEN_FILE=/empty"}},
		{"CLUSTER_SECRET_FILE", "a file that is not empty", []string{"CLUSTER_SECRET_FILE=/blank"}},
		{"ADMIN_TOKEN_FILE", "a file that is not empty", []string{"ADMIN_TOKEN_FILE=/blank"}},
		{"BOT_TOKEN", "both BOT_TOKEN and BOT_TOKEN_FILE are set", []string{"BOT_TOKEN=" + token, "BOT_TOKEN_FILE=/good"}},
		{"CLUSTER_SECRET", "both CLUSTER_SECRET and CLUSTER_SECRET_FILE are set", []string{"CLUSTER_SECRET=" + secret, "CLUSTER_SECRET_FILE=/secret"}},
		{"ADMIN_TOKEN", "both ADMIN_TOKEN and ADMIN_TOKEN_FILE are set", []string{"ADMIN_TOKEN=" + secret, "ADMIN_TOKEN_FILE=/secret"}},
		{"BOT_TOKEN_FILE", "BotFather", []string{"BOT_TOKEN_FILE=/junk"}},
		{"CLUSTER_SECRET_FILE", "openssl rand -base64 32", []string{"CLUSTER_SECRET_FILE=/short"}},
		{"ADMIN_TOKEN_FILE", "at least 16 bytes", []string{"ADMIN_TOKEN_FILE=/short"}},
		{"BACKEND_SECRET_FILE", "what Telegram accepts as secret_token", []string{"BACKEND_SECRET_FILE=/spaces"}},
		{"BACKEND_SECRET_FILE", "a file that is not empty", []string{"BACKEND_SECRET_FILE=/blank"}},
		{"BACKEND_SECRET", "both BACKEND_SECRET and BACKEND_SECRET_FILE are set", []string{"BACKEND_SECRET=s", "BACKEND_SECRET_FILE=/good"}},
		{"BOT_TOKEN_FILE", "UTF-8", []string{"BOT_TOKEN_FILE=/utf16"}},
		{"CLUSTER_SECRET_FILE", "UTF-8", []string{"CLUSTER_SECRET_FILE=/utf16be"}},
	} {
		if p := problems(t, f, c.set...); len(p) != 1 || !isAbout(p[0], c.about) || !strings.Contains(p[0], c.says) {
			t.Errorf("%q: got %q, want one line about %s that says %q", c.set, p, c.about, c.says)
		}
	}
}

func TestARealFileSaysWhyItCannotBeRead(t *testing.T) {
	t.Parallel()
	_, err := config.Load([]string{"BOT_TOKEN_FILE=" + t.TempDir()}, os.ReadFile)
	if err == nil || !strings.HasSuffix(err.Error(), "(is a directory)") {
		t.Errorf("a directory: %v", err)
	}
}

// No line has a secret: not one that is wrong, nor one in the wrong place.
func TestNoSecretIsInAnyLine(t *testing.T) {
	t.Parallel()
	const bad = "987654321:ZZbbCCddEEffGGhhIIjjKKllMMnnOOppQQ" // one letter short: mistyped ones count too
	f := files{"/bad": bad + "!", "/bad2": "hunter2hunter2", "/bad3": "hunter2 hunter2"}
	for _, environ := range [][]string{
		{"BOT_TOKEN=" + bad + "!"}, {"BOT_TOKEN_FILE=/bad"}, {"BOT_TOKEN_FILE=" + bad}, {"BOT_TOKEN=" + bad, "BOT_TOKEN_FILE=/bad"},
		{"CLUSTER_SECRET=hunter2hunter2"}, {"CLUSTER_SECRET_FILE=/bad2"}, {"CLUSTER_SECRET_FILE=hunter2hunter2"},
		{"ADMIN_TOKEN=hunter2hunter2"}, {"ADMIN_TOKEN_FILE=/bad2"}, {"ADMIN_TOKEN_FILE=hunter2hunter2"},
		{"TELEGRAM_API_URL=https://hunter2:x@host"}, {"TELEGRAM_API_URL=https://x:hunter2@host"}, {"TELEGRAM_API_URL=https://host?key=hunter2"},
		{"TELEGRAM_API_URL=https://host/bot" + bad}, {"TELEGRAM_API_URL=https://host/bot" + bad + "/getMe?x"}, {"TELEGRAM_API_URL=" + bad},
		{"TELEGRAM_API_URL=https://host/bot987654321%3A" + bad[10:]},
		{"REPLICA_NAME=" + bad}, {"INSTANCES=" + bad}, {"INSTANCES=bot," + bad}, {"ADMIN_CHAT_IDS=" + bad}, {"MODE=" + bad}, {"LEASE=" + bad},
		{"REPLICAS=" + bad}, {"QUORUM=" + bad}, {"HTTP_ADDR=" + bad}, {"LOG_LEVEL=" + bad}, {"SIMULATOR_RATE=" + bad},
		{"BOT_TOKN=" + bad, "LEASE=5"}, {"BACKEND_SECRT=hunter2", "LEASE=5"}, {"BACKENDS=http://x:hunter2@y", "LEASE=5"},
		{"BACKEND_SECRET=hunter2 hunter2"}, {"BACKEND_SECRET_FILE=/bad3"}, {"BACKEND_SECRET_FILE=hunter2"}, {"BACKEND_SECRET=hunter2", "BACKEND_SECRET_FILE=/bad2"},
		{"GATEWAY_TOKEN=" + bad}, {"GATEWAY_TOKEN_FILE=/bad"}, {"GATEWAY_TOKEN=hunter2"}, {"GATEWAY_ADDR=" + bad}, {"GATEWAY_PATIENCE=" + bad}, {"GATEWAY_REPLAY=" + bad},
		{"BACKEND=" + bad}, {"BACKEND=ftp://mybot/" + bad}, {"BACKEND_UPDATES=" + bad}, {"BACKEND_PARALLEL=" + bad}, {"BACKEND_TIMEOUT=" + bad},
		{"LEAVE_PATIENCE=" + bad}, {"WITNESS=" + bad}, {"LIFELINE_DIR=" + bad}, {"SIMULATOR_PROJECT=" + bad}, {"SIMULATOR_REHEARSAL=" + bad},
	} {
		for _, line := range problems(t, f, environ...) {
			if strings.Contains(line, bad[10:]) || strings.Contains(line, "hunter2") {
				t.Errorf("%q: %s", environ, line)
			}
		}
	}
}

func TestTheClusterSecretFollowsFromTheTokenAlone(t *testing.T) {
	t.Parallel()
	one, again := mustLoad(t, nil, "BOT_TOKEN="+token), mustLoad(t, nil, "BOT_TOKEN="+token, "LEASE=2s", "REPLICA_NAME=x")
	other := mustLoad(t, nil, "BOT_TOKEN=1"+token)
	if len(one.ClusterSecrets) != 1 || !reflect.DeepEqual(one.ClusterSecrets, again.ClusterSecrets) {
		t.Error("replicas of one bot do not agree on the secret")
	}
	// Replicas of 1.0.0 have the same: a rolling update is one cluster.
	if got := string(one.ClusterSecrets[0]); got != "derived from the token "+token || got == string(other.ClusterSecrets[0]) {
		t.Errorf("the secret is %q", got)
	}
}

// The command line in a container has the replica's environment, and so its key; others cannot make it.
func TestTheOperatorKeyFollowsFromTheClusterSecretAlone(t *testing.T) {
	t.Parallel()
	one, again := mustLoad(t, nil, "CLUSTER_SECRET="+secret), mustLoad(t, nil, "CLUSTER_SECRET="+secret+","+older, "BOT_TOKEN="+token, "LEASE=2s")
	other, derived := mustLoad(t, nil, "CLUSTER_SECRET="+older), mustLoad(t, nil, "BOT_TOKEN="+token)
	keys := map[string]bool{one.OperatorKey: true, other.OperatorKey: true, derived.OperatorKey: true}
	if one.OperatorKey != again.OperatorKey || len(keys) != 3 || len(one.OperatorKey) != 64 {
		t.Errorf("keys %s, %s; others %s, %s", one.OperatorKey, again.OperatorKey, other.OperatorKey, derived.OperatorKey)
	}
	if strings.Contains(derived.OperatorKey, token) || strings.Contains(one.OperatorKey, secret) {
		t.Error("a secret is in the key")
	}
}

// A mistyped name must not start the demo where a bot was meant.
func TestAMistypedTokenIsNoDemo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"BOT_TOEKN", "BOT_TOKEN_FLIE", "TELEGRAM_BOT_TOKEN", "bot_token", "BOTTOKEN", "TELEGRAM_TOKEN", "MY_TOKEN"} {
		p := problems(t, nil, name+"="+token)
		if len(p) != 1 || !isAbout(p[0], "BOT_TOKEN") || !strings.Contains(p[0], "it is not set, but "+name+" is") || strings.Contains(p[0], token[10:]) {
			t.Errorf("%s: %q", name, p)
		}
	}
	if got := mustLoad(t, nil, "BOT_TOEKN=x", "BOT_TOKEN="+token); got.Demo || len(got.Warnings) != 1 {
		t.Errorf("beside a token: demo %t, %q", got.Demo, got.Warnings)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set  []string
		want []string // a part of each warning
	}{
		{nil, nil},
		{[]string{"REPLICAS=4"}, []string{"REPLICAS=4 is even: it survives the failure of 1, as 3 would"}},
		{[]string{"REPLICAS=2"}, []string{"REPLICAS=2 survives no failure: a majority of two is both; with 3 one may fail"}},
		{[]string{"REPLICAS=4", "QUORUM=3"}, nil},
		{[]string{"REPLICAS=5", "QUORUM=3"}, nil},
		{[]string{"REPLICAS=1", "QUORUM=1"}, nil},
		{[]string{"REPLICAS=5", "QUORUM=2"}, []string{"QUORUM=2 is below a majority of REPLICAS=5"}},
		{[]string{"REPLICAS=4", "QUORUM=2"}, []string{"QUORUM=2 is below a majority of REPLICAS=4"}},
		{[]string{"REPLICAS=2", "QUORUM=1"}, []string{"QUORUM=1 is below a majority of REPLICAS=2"}},
		{[]string{"MODE=bot-only"}, []string{"MODE=bot-only with REPLICAS=3: there is no election, so all of them poll and end each other's polls (409); set REPLICAS=1"}},
		{[]string{"MODE=bot-only", "REPLICAS=4"}, []string{"MODE=bot-only with REPLICAS=4"}},
		{[]string{"MODE=bot-only", "REPLICAS=1"}, nil},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://api.example.org:8081"}, []string{"TELEGRAM_API_URL=http://api.example.org:8081 is not encrypted: the token travels in clear text"}},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://10.0.0.7"}, []string{"TELEGRAM_API_URL=http://10.0.0.7 is not encrypted"}},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://[fd00::1]:80/x"}, []string{"TELEGRAM_API_URL=http://[fd00::1]:80 is not encrypted"}},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=https://api.example.org"}, nil},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://telegram-bot-api:8081"}, nil},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://localhost:8081"}, nil},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://127.0.0.1:8081"}, nil},
		{[]string{"BOT_TOKEN=" + token, "TELEGRAM_API_URL=http://[::1]:8081"}, nil},
		{[]string{"TELEGRAM_API_URL=http://demo.example.org"}, nil}, // the demo's token is public
		{[]string{"LEASE=4500ms"}, nil},
		{[]string{"LEASE=4501ms"}, []string{"LEASE=4.501s is longer than 4.5s: while Telegram is down the role may move once"}},
		{[]string{"BOT_TOKN=" + token, "BOT_TOKEN=" + token}, []string{"BOT_TOKN is not known and has no effect; did you mean BOT_TOKEN?"}},
		{[]string{"BOT_TOKEN_FLIE=/x", "BOT_TOKEN=" + token}, []string{"did you mean BOT_TOKEN_FILE?"}},
		{[]string{"HABOT_LEASE=2s"}, []string{"HABOT_LEASE is not known and has no effect; did you mean LEASE?"}},
		{[]string{"HABOT_MODE=x"}, []string{"did you mean MODE?"}},
		{[]string{"TELEGRAM_BOT_TOKEN=" + token, "BOT_TOKEN=" + token}, []string{"did you mean BOT_TOKEN?"}},
		{[]string{"TELEGRAM_TOKEN=x"}, nil},
		{[]string{"TELEGRAM_TOKEN=" + token, "BOT_TOKEN=" + token}, nil},
		{[]string{"LEESE=2s"}, []string{"did you mean LEASE?"}},
		{[]string{"QUROUM=2"}, []string{"did you mean QUORUM?"}},
		{[]string{"API_URL=http://x"}, []string{"did you mean TELEGRAM_API_URL?"}},
		{[]string{"REPLICA=3"}, []string{"did you mean REPLICAS?"}},
		{[]string{"bot_token=" + token, "BOT_TOKEN=" + token}, []string{"did you mean BOT_TOKEN?"}},
		{[]string{"BOT-TOKEN=" + token, "BOT_TOKEN=" + token}, []string{"did you mean BOT_TOKEN?"}},
		{[]string{"ADMIN_CHAT_ID=1"}, []string{"did you mean ADMIN_CHAT_IDS?"}},
		{[]string{"LOGLEVEL=debug"}, []string{"did you mean LOG_LEVEL?"}},
		{[]string{"REPLICA=3", "ADMIN_TOKN=x"}, []string{"ADMIN_TOKN", "REPLICA "}},
		{[]string{"REPLICA="}, nil},
		{[]string{"REPLICAS\n=3"}, nil}, // a warning is one line
		{[]string{
			"PATH=/bin", "HOME=/", "HTTP_PROXY=http://p", "HTTPS_PROXY=http://p", "NO_PROXY=x", "http_proxy=p", "HOSTNAME=h", "GOMEMLIMIT=20MiB",
			"GOMAXPROCS=2", "NODE=n", "LANG=C", "TZ=UTC", "TERM=x", "PWD=/", "USER=u", "SHLVL=1", "container=docker", "SSL_CERT_FILE=/x", "LESS=x", "HTTP_PORT=1",
		}, nil},
	} {
		got := mustLoad(t, nil, c.set...).Warnings
		ok := len(got) == len(c.want)
		for i := range min(len(got), len(c.want)) {
			ok = ok && strings.Contains(got[i], c.want[i]) && !strings.Contains(got[i], token[10:])
		}
		if !ok {
			t.Errorf("%q: warnings %q, want %q", c.set, got, c.want)
		}
	}
}

func TestFilesOfSecretsAreListedWithTheirVariables(t *testing.T) {
	t.Parallel()
	got, err := config.SecretFiles([]string{"ADMIN_TOKEN_FILE= /run/b ", "BOT_TOKEN_FILE=/run/a", "BACKEND_SECRET_FILE=", "OTHER_FILE=/x", "CLUSTER_SECRET=x"})
	want := []config.SecretFile{{Variable: "BOT_TOKEN_FILE", Path: "/run/a"}, {Variable: "ADMIN_TOKEN_FILE", Path: "/run/b"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestARehearsalIsGivenNoToken(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"BOT_TOKEN=" + token, "BOT_TOKEN_FILE=/not/there"} {
		if got, ok := config.Rehearsal([]string{file, "REPLICAS=5"}); ok || len(got) != 2 {
			t.Errorf("not asked for: %t, %q", ok, got)
		}
		environ, ok := config.Rehearsal([]string{file, "SIMULATOR_REHEARSAL=true", "REPLICAS=5"})
		if cfg := mustLoad(t, nil, environ...); !ok || !cfg.Demo || !cfg.SimulatorRehearsal || cfg.Replicas != 5 {
			t.Errorf("%t, %+v", ok, cfg)
		}
	}
	// Of a whole .env it is given no secret: what it has not got is nothing that it could not read, or show.
	environ, _ := config.Rehearsal([]string{"SIMULATOR_REHEARSAL=true", "BOT_TOKEN=" + token, "GATEWAY_TOKEN=" + otherToken, "CLUSTER_SECRET=" + secret, "ADMIN_TOKEN_FILE=/not/there",
		"BACKEND=http://mybot", "BACKEND_SECRET_FILE=/not/there", "CLUSTER_SECRET_FILE=/not/there", "WITNESS=true", "SIMULATOR_RATE=7"})
	if cfg := mustLoad(t, nil, environ...); cfg.SimulatorRate != 7 || cfg.GatewayToken != config.DemoToken || cfg.BackendSecret != "" || cfg.AdminToken != "" ||
		!reflect.DeepEqual(cfg.ClusterSecrets, mustLoad(t, nil).ClusterSecrets) {
		t.Errorf("%+v", cfg)
	}
	// A replica that was given the variable and no other server is no rehearsal.
	for _, c := range []struct {
		set      string
		warnings int
	}{{"LEASE=1s", 1}, {"TELEGRAM_API_URL=http://telegram:8081", 0}} {
		if got := mustLoad(t, nil, "SIMULATOR_REHEARSAL=true", "BOT_TOKEN="+token, c.set).Warnings; len(got) != c.warnings {
			t.Errorf("%s: warnings %q", c.set, got)
		}
	}
}

func TestEveryVariableIsListedOnceWithItsDefault(t *testing.T) {
	t.Parallel()
	all, err := config.Variables()
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	var environ []string
	for _, v := range all {
		if v.Name == "" || set[v.Name] {
			t.Errorf("%q is listed without a name, or twice", v.Name)
		}
		set[v.Name] = true
		if v.Default != "" {
			environ = append(environ, v.Name+"="+v.Default)
		}
	}
	if len(all) != 41 {
		t.Errorf("%d variables: a new one needs its tests here", len(all))
	}
	if got, want := mustLoad(t, nil, environ...), mustLoad(t, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults, set, are not the same as nothing set:\n%+v\n%+v", got, want)
	}
}

// Whatever is set, Load ends with a configuration or with clean lines, each about one of our variables.
func FuzzLoad(f *testing.F) {
	all, err := config.Variables()
	if err != nil {
		f.Fatal(err)
	}
	for i, value := range []string{
		"", token, "http://telegram:8081", "bot-only", "3", "bot,[::1]:7175", "majority", "1s", secret, ":8080", "0", "-1001,5", "debug", "json", "0.5",
		"bad\nline", "\xff", "[[::1", "http://u:p@h?q", "NaN",
	} {
		f.Add(uint8(i), value, uint8(i+1), "2", "file's content")
	}
	f.Fuzz(func(t *testing.T, first uint8, a string, second uint8, b, content string) {
		one, two := all[int(first)%len(all)].Name, all[int(second)%len(all)].Name
		read := func(name string) ([]byte, error) {
			if len(name)%2 == 0 {
				return []byte(content), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		// What no line may show: a secret long enough not to be in one by chance.
		const mark = "~the-secret-mark~"
		hidden := strings.NewReplacer("\n", "", "\r", "").Replace(mark + content)
		_, err := config.Load([]string{a + "=" + b, one + "=" + a, two + "=" + b, "CLUSTER_SECRET=" + hidden, "BOT_TOKEN=" + hidden}, read)
		if err == nil {
			t.Fatal("a token with ~ in it was accepted")
		}
		checkLines(t, err, all, mark)

		cfg, err := config.Load([]string{one + "=" + a, two + "=" + b, a + "=" + b}, read)
		if err != nil {
			checkLines(t, err, all, mark)
			return
		}
		checkConfig(t, cfg)
	})
}

func checkLines(t *testing.T, err error, all []config.Variable, mark string) {
	t.Helper()
	p, ok := errors.AsType[config.Problems](err)
	if !ok || len(p) == 0 {
		t.Fatalf("not Problems: %v", err)
	}
	for _, line := range p {
		if strings.Contains(line, mark) {
			t.Errorf("a secret is shown: %s", line)
		}
		if !slices.ContainsFunc(all, func(v config.Variable) bool { return isAbout(line, v.Name) }) {
			t.Errorf("not one line about a variable of ours: %q", line)
		}
	}
}

func checkConfig(t *testing.T, cfg config.Config) {
	t.Helper()
	switch {
	case cfg.Token == "", cfg.Demo != (cfg.Token == config.DemoToken), len(cfg.ClusterSecrets) == 0, len(cfg.ClusterSecrets) > 2, len(cfg.ClusterSecrets[0]) < 32:
		t.Errorf("secrets: %+v", cfg)
	case cfg.Replicas < 1, cfg.Replicas > config.MaxReplicas, cfg.Quorum < 0, cfg.Quorum > cfg.Replicas:
		t.Errorf("sizes: %+v", cfg)
	case cfg.Lease < config.MinLease, cfg.Lease > config.MaxLease:
		t.Errorf("lease: %v", cfg.Lease)
	case len(cfg.Instances) == 0, len(cfg.Instances) > 64, len(cfg.AdminChatIDs) > 20, slices.Contains(cfg.AdminChatIDs, 0):
		t.Errorf("lists: %+v", cfg)
	case strings.HasSuffix(cfg.APIURL, "/"), !strings.Contains(cfg.APIURL, "://"):
		t.Errorf("API URL: %q", cfg.APIURL)
	}
	for _, w := range cfg.Warnings {
		if strings.ContainsAny(w, "\r\n") {
			t.Errorf("a warning of several lines: %q", w)
		}
	}
}

// A URL may hold a password, or the token in its path: no line shows it.
func TestNoLineShowsABackendsURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://user:hunter2@mybot/", "http://mybot/%zz?hunter2", "hunter2", "http://mybot:hunter2/", "http://mybot/#hunter2", "gateway,http://x/hunter2"} {
		for _, line := range problems(t, nil, "BACKEND="+url) {
			if strings.Contains(line, "hunter2") {
				t.Errorf("%s: %q", url, line)
			}
		}
	}
}

// Copies use the bot's token unless they have one of their own. It opens nothing beside the port that it is for.
func TestTheGatewaysSettings(t *testing.T) {
	t.Parallel()
	alone := []string{"BACKEND=gateway", "MODE=bot-only", "REPLICAS=1", "BOT_TOKEN=" + token}
	if got := mustLoad(t, nil, alone...); !got.Gateway || got.GatewayToken != token || len(got.Warnings) > 0 {
		t.Errorf("%+v", got)
	}
	if got := mustLoad(t, map[string]string{"/run/t": otherToken + "\n"}, append(alone, "GATEWAY_TOKEN_FILE=/run/t")...); got.GatewayToken != otherToken || got.Token != token {
		t.Errorf("tokens %q, %q", got.GatewayToken, got.Token)
	}
	for _, addr := range []string{"HTTP_ADDR=:8082", "PEER_ADDR=:8082"} {
		p := problems(t, nil, append(alone, addr)...)
		if len(p) != 1 || !strings.HasPrefix(p[0], "GATEWAY_ADDR") || !strings.Contains(p[0], "another port than") {
			t.Errorf("%s: %q", addr, p)
		}
	}
}

func TestBackendSettingsWithoutABackendAreWarnedOf(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]int{"": 0, "BACKEND_SECRET=s": 1, "BACKEND_UPDATES=message": 1, "BACKEND=http://mybot BACKEND_SECRET=s": 0} {
		got := mustLoad(t, nil, strings.Fields(set)...).Warnings
		if len(got) != want || want > 0 && !strings.Contains(got[0], "has no effect: BACKEND names no URL") {
			t.Errorf("%q: warnings %q", set, got)
		}
	}
}
