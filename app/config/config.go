package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"habot/app/relay"
	"habot/app/supervise"

	"github.com/caarlos0/env/v10"
)

// DemoToken is the bot's without BOT_TOKEN. It opens nothing but the simulator.
const DemoToken = "1000000001:habot-demo-token-for-the-simulator0"

// Modes.
const (
	ModePrimaryBackup = "primary-backup"
	ModeBotOnly       = "bot-only"
)

// The bounds of what is accepted.
const (
	MinLease    = 200 * time.Millisecond
	MaxLease    = time.Minute
	MaxReplicas = 50

	// calmLease: with a longer lease standbys may not have reported an outage of Telegram before the primary looks for a
	// healthy one (reach/tracker.go).
	calmLease = 4500 * time.Millisecond

	// MaxLeavePatience is as long as a replica that stops may wait for newcomers in all.
	MaxLeavePatience = supervise.TurnsBound
	// GracePeriod is stop_grace_period in docker-compose.yml: after that a replica is killed.
	GracePeriod = 30 * time.Second

	maxInstances = 64
	maxAdmins    = 20
	maxRate      = 1000
	maxChats     = 1000
	// maxLifelineDir leaves room for the name of a socket: 21 bytes.
	maxLifelineDir = 80
)

// Config is the whole configuration, checked.
type Config struct {
	// Witness: the replica votes and never is primary. It has no token, no way to Telegram and no backends.
	Witness bool
	// Token is DemoToken if Demo.
	Token string
	Demo  bool
	// APIURL has no slash at its end.
	APIURL string
	// Proxy is on the way to APIURL; nil for none. It may hold a password.
	Proxy     *url.URL
	Mode      string
	Replicas  int
	Instances []string
	// Quorum is 0 for a majority.
	Quorum int
	Lease  time.Duration
	// LeavePatience is 0 if one that stops waits for no newcomer.
	LeavePatience time.Duration
	// ClusterSecrets are what replicas prove to each other: the first is sent, all are accepted.
	ClusterSecrets [][]byte
	PeerAddr       string
	HTTPAddr       string
	// LifelineDir is the folder that the replicas of one machine share; empty for no lifelines.
	LifelineDir string
	// ReplicaName is empty if it is to be found out.
	ReplicaName string
	// Stack is true in a Swarm stack.
	Stack        bool
	AdminChatIDs []int64
	AdminToken   string
	// OperatorKey is what the command line shows a replica of the same configuration. It follows from the first
	// cluster secret, which does not follow from it.
	OperatorKey string
	LogLevel    slog.Level
	LogJSON     bool

	// Backends are the webhook backends that handle updates; nil for the bot that comes along. What follows is theirs.
	Backends      []relay.Backend
	BackendSecret string
	// BackendUpdates are the kinds of updates that are asked for; nil for Telegram's default set.
	BackendUpdates  []string
	BackendParallel int
	BackendTimeout  time.Duration

	// Gateway: copies of a polling bot handle updates. What follows is theirs. GatewayToken is Token if it is not set.
	Gateway         bool
	GatewayAddr     string
	GatewayToken    string
	GatewayPatience time.Duration
	GatewayReplay   time.Duration

	SimulatorAddr  string
	SimulatorRate  float64
	SimulatorChats int
	// SimulatorProject is the Compose project whose containers the replicas are; empty if not known.
	SimulatorProject string
	// SimulatorRehearsal has the simulator accept any token.
	SimulatorRehearsal bool

	// Warnings are what is accepted, but worth a line in the log.
	Warnings []string
}

// environment is what is read, as it is written. Its tags are the one list of variables.
type environment struct {
	BotToken          string `env:"BOT_TOKEN"`
	BotTokenFile      string `env:"BOT_TOKEN_FILE"`
	TelegramAPIURL    string `env:"TELEGRAM_API_URL"`
	HTTPSProxy        string `env:"HTTPS_PROXY"`
	HTTPProxy         string `env:"HTTP_PROXY"`
	NoProxy           string `env:"NO_PROXY"`
	Backend           string `env:"BACKEND" envDefault:"builtin"`
	BackendSecret     string `env:"BACKEND_SECRET"`
	BackendSecretFile string `env:"BACKEND_SECRET_FILE"`
	BackendUpdates    string `env:"BACKEND_UPDATES"`
	BackendParallel   string `env:"BACKEND_PARALLEL" envDefault:"40"`
	BackendTimeout    string `env:"BACKEND_TIMEOUT" envDefault:"60s"`
	GatewayAddr       string `env:"GATEWAY_ADDR" envDefault:":8082"`
	GatewayToken      string `env:"GATEWAY_TOKEN"`
	GatewayTokenFile  string `env:"GATEWAY_TOKEN_FILE"`
	GatewayPatience   string `env:"GATEWAY_PATIENCE" envDefault:"90s"`
	GatewayReplay     string `env:"GATEWAY_REPLAY" envDefault:"30s"`
	Mode              string `env:"MODE" envDefault:"primary-backup"`
	Replicas          string `env:"REPLICAS" envDefault:"3"`
	Instances         string `env:"INSTANCES" envDefault:"bot"`
	Quorum            string `env:"QUORUM" envDefault:"majority"`
	Lease             string `env:"LEASE" envDefault:"550ms"`
	Witness           string `env:"WITNESS" envDefault:"false"`
	LeavePatience     string `env:"LEAVE_PATIENCE" envDefault:"5s"`
	ClusterSecret     string `env:"CLUSTER_SECRET"`
	ClusterSecretFile string `env:"CLUSTER_SECRET_FILE"`
	PeerAddr          string `env:"PEER_ADDR" envDefault:":7175"`
	LifelineDir       string `env:"LIFELINE_DIR" envDefault:"/run/habot"`
	HTTPAddr          string `env:"HTTP_ADDR" envDefault:":8080"`
	ReplicaName       string `env:"REPLICA_NAME"`
	SwarmTask         string `env:"SWARM_TASK"`
	AdminChatIDs      string `env:"ADMIN_CHAT_IDS"`
	AdminToken        string `env:"ADMIN_TOKEN"`
	AdminTokenFile    string `env:"ADMIN_TOKEN_FILE"`
	LogLevel          string `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat         string `env:"LOG_FORMAT" envDefault:"text"`
	SimulatorAddr     string `env:"SIMULATOR_ADDR" envDefault:":8081"`
	SimulatorRate     string `env:"SIMULATOR_RATE" envDefault:"2"`
	SimulatorChats    string `env:"SIMULATOR_CHATS" envDefault:"5"`
	SimulatorProject  string `env:"SIMULATOR_PROJECT"`
	// The name has no TOKEN in it: names of secrets do, and the simulator is given none.
	SimulatorRehearsal string `env:"SIMULATOR_REHEARSAL" envDefault:"false"`
}

// Variable is one environment variable.
type Variable struct {
	Name string
	// Default is empty if there is none, or if it depends on others.
	Default string
}

// Variables lists every variable, in the order of the documentation.
func Variables() ([]Variable, error) {
	fields, err := env.GetFieldParams(&environment{})
	if err != nil {
		return nil, fmt.Errorf("list the variables: %w", err)
	}
	all := make([]Variable, 0, len(fields))
	for _, f := range fields {
		all = append(all, Variable{Name: f.Key, Default: f.DefaultValue})
	}
	return all, nil
}

// Demo reports whether an environment names no token, and is no witness's: then the bot runs against the simulator. It reads
// no file, and judges nothing else.
func Demo(environ []string) bool {
	set := given(environ)
	return set["WITNESS"] != "true" && set["BOT_TOKEN_FILE"] == "" && (set["BOT_TOKEN"] == "" || set["BOT_TOKEN"] == DemoToken)
}

// Rehearsal reports whether an environment has the simulator accept any token, and returns the environment without
// secrets, and as no witness's: the simulator needs none, and need not be able to read their files.
func Rehearsal(environ []string) ([]string, bool) {
	if given(environ)["SIMULATOR_REHEARSAL"] != "true" {
		return environ, false
	}
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		switch strings.TrimSuffix(name, "_FILE") {
		case "BOT_TOKEN", "GATEWAY_TOKEN", "CLUSTER_SECRET", "ADMIN_TOKEN", "BACKEND_SECRET", "WITNESS":
			return true
		}
		return false
	}), true
}

// given is an environment without what is not set. Empty means not set: Compose hands on what .env leaves
// out as an empty string. INSTANCES could be emptied by mistake, and no replica would be found; LIFELINE_DIR is emptied to do
// without lifelines.
func given(environ []string) map[string]string {
	set := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if value = clean(value); value != "" || name == "INSTANCES" || name == "LIFELINE_DIR" {
			set[name] = value
		}
	}
	lowerCase(set)
	return set
}

// Problems are what is wrong with a configuration, one line each. No line contains a secret.
type Problems []string //nolint:errname // they are a list of lines, and read as one

// Error implements error: all the lines.
func (p Problems) Error() string { return strings.Join(p, "\n") }

// Load makes a configuration of an environment (NAME=value each) and the files that it names. Its error
// is of type Problems.
func Load(environ []string, readFile func(name string) ([]byte, error)) (Config, error) {
	set := given(environ)
	var raw environment
	if err := env.ParseWithOptions(&raw, env.Options{Environment: set}); err != nil {
		return Config{}, Problems{err.Error()}
	}
	c := checker{readFile: readFile}
	if dir, ok := set["LIFELINE_DIR"]; ok {
		raw.LifelineDir = dir // empty as well
	}
	cfg := c.config(raw)
	if v, ok := set["INSTANCES"]; ok && v == "" {
		c.problem("INSTANCES", v, acceptedInstances)
	}
	c.allProxy(set)
	if err := c.typoHints(set, cfg.Demo); err != nil {
		return Config{}, Problems{err.Error()}
	}
	cfg.Warnings = c.warnings
	if len(c.problems) > 0 {
		return Config{}, c.problems
	}
	return cfg, nil
}
