package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is accepted, in words.
const (
	acceptedURL       = "http://host[:port] or https://host[:port], a path allowed, no user, query or fragment"
	acceptedMode      = ModePrimaryBackup + " or " + ModeBotOnly
	acceptedDir       = "an absolute path of at most 80 bytes, or empty for no lifelines"
	acceptedInstances = "a comma-separated list of host or host:port, at most 64"
	acceptedAddr      = "host:port or :port, port 1..65535"
	acceptedName      = "1 to 64 of A-Z a-z 0-9 . _ -"
	acceptedChats     = "a comma-separated list of chat ids (whole numbers, not 0), at most 20"
	acceptedLevel     = "debug, info, warn or error"
	acceptedFormat    = "text or json"
	acceptedSwitch    = "true or false"
)

// checker turns text into values and collects what is wrong.
type checker struct {
	readFile func(string) ([]byte, error)
	problems Problems
	warnings []string
}

func (c *checker) problem(name, value, accepted string) {
	if tokenWithin.MatchString(value) {
		c.secretProblem(name, accepted) // a token in the wrong place is still a secret
		return
	}
	c.problems = append(c.problems, fmt.Sprintf("%s=%q is not accepted: %s", name, shorten(value), accepted))
}

func (c *checker) secretProblem(name, what string) {
	c.problems = append(c.problems, fmt.Sprintf("%s is not accepted: %s", name, what))
}

func (c *checker) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func (c *checker) config(raw environment) Config {
	cfg := Config{
		Mode:          c.oneOf("MODE", raw.Mode, acceptedMode, ModePrimaryBackup, ModeBotOnly),
		Replicas:      c.whole("REPLICAS", raw.Replicas, 1, MaxReplicas),
		Lease:         c.lease(raw.Lease),
		Witness:       c.oneOf("WITNESS", raw.Witness, acceptedSwitch, "true", "false") == "true",
		LeavePatience: c.leavePatience(raw.LeavePatience),
		PeerAddr:      c.addr("PEER_ADDR", raw.PeerAddr),
		LifelineDir:   c.lifelineDir(raw.LifelineDir),
		HTTPAddr:      c.addr("HTTP_ADDR", raw.HTTPAddr),
		ReplicaName:   c.name(raw.ReplicaName),
		AdminChatIDs:  c.chats(raw.AdminChatIDs),
		AdminToken:    c.adminToken(raw),
		LogLevel:      c.level(raw.LogLevel),
		LogJSON:       c.oneOf("LOG_FORMAT", raw.LogFormat, acceptedFormat, "text", "json") == "json",

		SimulatorAddr:  c.addr("SIMULATOR_ADDR", raw.SimulatorAddr),
		SimulatorRate:  c.rate(raw.SimulatorRate),
		SimulatorChats: c.whole("SIMULATOR_CHATS", raw.SimulatorChats, 1, maxChats),

		SimulatorProject:   c.project(raw.SimulatorProject),
		SimulatorRehearsal: c.oneOf("SIMULATOR_REHEARSAL", raw.SimulatorRehearsal, acceptedSwitch, "true", "false") == "true",
	}
	if samePort(cfg.PeerAddr, cfg.HTTPAddr) {
		c.problem("HTTP_ADDR", cfg.HTTPAddr, "another port than PEER_ADDR's, "+acceptedAddr)
	}
	cfg.Instances = c.instances(raw.Instances)
	cfg.Quorum = c.quorum(raw.Quorum, cfg.Replicas)
	if cfg.Witness {
		c.witness(cfg, raw)
	} else {
		cfg.Token = c.token(raw)
	}
	cfg.Demo = cfg.Token == DemoToken
	cfg.APIURL = c.apiURL(raw.TelegramAPIURL, cfg.Demo)
	cfg.Proxy = c.proxy(raw, cfg.APIURL, cfg.Demo)
	cfg.ClusterSecrets = c.clusterSecrets(raw, cfg.Token)
	cfg.OperatorKey = c.operatorKey(cfg.ClusterSecrets)
	c.backend(&cfg, raw)
	if cfg.Witness {
		cfg.APIURL, cfg.Proxy, cfg.Backends, cfg.GatewayToken, cfg.AdminChatIDs = "", nil, nil, "", nil // one .env may serve all machines
	}
	stack(&cfg, raw.SwarmTask)
	if cfg.SimulatorRehearsal && !cfg.Demo && !cfg.Witness && raw.TelegramAPIURL == "" {
		c.warn("SIMULATOR_REHEARSAL=true without TELEGRAM_API_URL: the replicas talk to the real Telegram; for a rehearsal set TELEGRAM_API_URL=http://telegram:8081")
	}
	if cfg.Mode == ModePrimaryBackup && cfg.Replicas > 1 && cfg.Lease > calmLease {
		c.warn("LEASE=%v is longer than %v: while Telegram is down the role may move once", cfg.Lease, calmLease)
	}
	if cfg.Mode == ModeBotOnly && cfg.Replicas > 1 {
		c.warn("MODE=%s with REPLICAS=%d: there is no election, so all of them poll and end each other's polls (409); set REPLICAS=1", ModeBotOnly, cfg.Replicas)
	}
	switch spare := (cfg.Replicas - 1) / 2; {
	case cfg.Mode != ModePrimaryBackup || cfg.Replicas%2 == 1 || cfg.Quorum != 0:
	case spare == 0:
		c.warn("REPLICAS=%d survives no failure: a majority of two is both; with 3 one may fail", cfg.Replicas)
	default:
		c.warn("REPLICAS=%d is even: it survives the failure of %d, as %d would", cfg.Replicas, spare, cfg.Replicas-1)
	}
	return cfg
}

// witness judges what a witness must not have, and what it needs.
func (c *checker) witness(cfg Config, raw environment) {
	for _, token := range []secret{{raw.BotToken, "BOT_TOKEN"}, {raw.BotTokenFile, "BOT_TOKEN_FILE"}} {
		if token.text != "" {
			c.secretProblem(token.name, "WITNESS=true is set too, and a witness has no token; unset "+token.name+" here, or unset WITNESS")
		}
	}
	switch {
	case cfg.Mode == ModeBotOnly:
		c.problem("WITNESS", raw.Witness, "a witness votes, and MODE="+ModeBotOnly+" has no election; set MODE="+ModePrimaryBackup)
	case cfg.Replicas == 1:
		c.problem("WITNESS", raw.Witness, "with REPLICAS=1 there is no replica that could be primary; set REPLICAS to the number of all replicas, this one included")
	case raw.ClusterSecret == "" && raw.ClusterSecretFile == "":
		c.secretProblem("CLUSTER_SECRET", "it is not set, and WITNESS=true needs it, for a witness has no token to derive it from; set the same here and in all replicas: "+acceptedClusterSecret)
	}
}

func (c *checker) apiURL(value string, demo bool) string {
	switch {
	case value == "" && demo:
		return "http://telegram:8081"
	case value == "":
		return "https://api.telegram.org"
	}
	u, err := url.Parse(value)
	if err != nil {
		c.secretProblem("TELEGRAM_API_URL", acceptedURL)
		return ""
	}
	host, _, _ := strings.Cut(value, "/")
	switch {
	case tokenWithin.MatchString(u.Path), tokenWithin.MatchString(u.Opaque):
		c.secretProblem("TELEGRAM_API_URL", acceptedURL+"; the token belongs into BOT_TOKEN")
	case !strings.Contains(value, "://") && strings.ContainsAny(value, "@?#"):
		c.secretProblem("TELEGRAM_API_URL", acceptedURL)
	case !strings.Contains(value, "://"):
		c.problem("TELEGRAM_API_URL", host, acceptedURL)
	case (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || (u.Port() != "" && !isPort(u.Port())),
		u.User != nil, strings.ContainsAny(value, "?#"):
		// User, path and query are not shown: they may be secrets.
		c.problem("TELEGRAM_API_URL", u.Scheme+"://"+u.Host, acceptedURL)
	}
	if u.Scheme == "http" && !demo && !isNear(u.Hostname()) {
		c.warn("TELEGRAM_API_URL=%s://%s is not encrypted: the token travels in clear text to a host that is not this one; use https", u.Scheme, u.Host)
	}
	return strings.TrimRight(value, "/")
}

// isNear reports whether what is sent to a host stays on this machine, as far as its name tells: the loopback, or a
// container's name, which has no dot.
func isNear(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return !strings.Contains(host, ".")
}

func (c *checker) oneOf(name, value, accepted string, values ...string) string {
	if !slices.Contains(values, value) {
		c.problem(name, value, accepted)
	}
	return value
}

func (c *checker) whole(name, value string, least, most int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		c.problem(name, value, fmt.Sprintf("a whole number, %d..%d", least, most))
		return most // refused anyway: nothing that is compared with it is to be blamed
	}
	return n
}

func (c *checker) quorum(value string, replicas int) int {
	if value == "majority" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > replicas {
		c.problem("QUORUM", value, fmt.Sprintf("majority, or a whole number, 1..%d (REPLICAS)", replicas))
		return 0
	}
	if n <= replicas/2 {
		c.warn("QUORUM=%d is below a majority of REPLICAS=%d: after a network partition each side may have a primary of its own until they meet again", n, replicas)
	}
	return n
}

func (c *checker) lease(value string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < MinLease || d > MaxLease {
		c.problem("LEASE", value, "a duration with its unit, 200ms..60s, such as 550ms")
		return MinLease
	}
	return d
}

func (c *checker) leavePatience(value string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > MaxLeavePatience {
		c.problem("LEAVE_PATIENCE", value, fmt.Sprintf("0, or a duration with its unit up to %v, such as 5s; a replica that waits for longer would be killed at the end of its grace period, stop_grace_period, %v", MaxLeavePatience, GracePeriod))
		return 0
	}
	return d
}

func (c *checker) rate(value string) float64 {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= maxRate) {
		c.problem("SIMULATOR_RATE", value, fmt.Sprintf("messages a second, 0..%d", maxRate))
		return 0
	}
	return f
}

var projectShape = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,127}$`)

// project is shown in commands that people copy into a shell.
func (c *checker) project(value string) string {
	if value != "" && !projectShape.MatchString(value) {
		c.problem("SIMULATOR_PROJECT", value, "the name of a Compose project: a-z, 0-9, _ and -, at most 128")
		return ""
	}
	return value
}

var hostShape = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$`)

func (c *checker) instances(value string) []string {
	if value == "" {
		return nil // told apart by Load
	}
	var all []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if !isInstance(part) {
			c.problem("INSTANCES", part, acceptedInstances)
		}
		all = append(all, part)
	}
	if len(all) == 0 || len(all) > maxInstances {
		c.problem("INSTANCES", value, acceptedInstances)
	}
	return all
}

func isInstance(s string) bool {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return isHost(host) && isPort(port)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return ok && err == nil && ip.Is6()
	}
	return isHost(s)
}

func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || hostShape.MatchString(s)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16) // unlike Atoi it refuses a sign
	return err == nil && n >= 1
}

func (c *checker) addr(name, value string) string {
	host, port, err := net.SplitHostPort(value)
	if err != nil || !isPort(port) || (host != "" && !isHost(host)) {
		c.problem(name, value, acceptedAddr)
	}
	return value
}

// samePort reports whether two addresses cannot both be listened on.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && (hostA == hostB || hostA == "" || hostB == "")
}

var nameShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// lifelineDir is a folder in which a socket's path is short enough for the kernel: 107 bytes.
func (c *checker) lifelineDir(value string) string {
	if value != "" && (!path.IsAbs(value) || len(value) > maxLifelineDir) {
		c.problem("LIFELINE_DIR", value, acceptedDir)
	}
	return value
}

func (c *checker) name(value string) string {
	if value != "" && !nameShape.MatchString(value) {
		c.problem("REPLICA_NAME", value, acceptedName)
	}
	return value
}

// stack tells a Swarm stack, which fills the template in, from Compose, which hands it on as it is. A task
// without a slot of its own (a service in global mode) has number 0, and shares that name with all the others.
func stack(cfg *Config, task string) {
	cfg.Stack = task != "" && !strings.Contains(task, "{{")
	if cfg.Stack && cfg.ReplicaName == "" && nameShape.MatchString(task) && !strings.HasSuffix(task, ".0") {
		cfg.ReplicaName = task
	}
}

func (c *checker) chats(value string) []int64 {
	var all []int64
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		id, err := strconv.ParseInt(part, 10, 64)
		if err != nil || id == 0 {
			c.problem("ADMIN_CHAT_IDS", part, acceptedChats)
			continue
		}
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	if len(all) > maxAdmins {
		c.problem("ADMIN_CHAT_IDS", value, acceptedChats)
	}
	return all
}

func (c *checker) level(value string) slog.Level {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	l, ok := levels[strings.ToLower(value)]
	if !ok {
		c.problem("LOG_LEVEL", value, acceptedLevel)
	}
	return l
}
