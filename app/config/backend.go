package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"habot/app/relay"
)

// What is accepted, in words, and its bounds.
const (
	builtin          = "builtin"
	gateway          = "gateway"
	acceptedBackend  = builtin + ", " + gateway + ", or " + relay.Accepted
	acceptedGateway  = "the number before BOT_TOKEN's colon, a colon, and 35 of A-Z a-z 0-9 _ - that are not BOT_TOKEN's"
	acceptedPatience = "a duration with its unit, 10s..10m, such as 90s"
	acceptedReplay   = "a duration with its unit, 0s..10m, such as 30s; 0s turns it off"
	acceptedUpdates  = "a comma-separated list of kinds of updates as Telegram names them, such as message,message_reaction, at most 64"
	acceptedTimeout  = "a duration with its unit, 1s..10m, such as 60s"

	maxUpdates        = 64
	maxParallel       = 100
	minBackendTimeout = time.Second
	maxBackendTimeout = 10 * time.Minute
	minPatience       = 10 * time.Second
	maxPatience       = 10 * time.Minute
	maxReplay         = 10 * time.Minute
)

// backend reads who handles updates. No line shows a value of BACKEND: a URL may hold a password or a token.
func (c *checker) backend(cfg *Config, raw environment) {
	cfg.BackendParallel = c.whole("BACKEND_PARALLEL", raw.BackendParallel, 1, maxParallel)
	cfg.BackendTimeout = c.within("BACKEND_TIMEOUT", raw.BackendTimeout, minBackendTimeout, maxBackendTimeout, acceptedTimeout)
	cfg.BackendUpdates = c.updates(raw.BackendUpdates)
	secret := c.secret("BACKEND_SECRET", raw.BackendSecret, raw.BackendSecretFile)
	if secret.text != "" && !relay.CheckSecret(secret.text) {
		c.secretProblem(secret.name, relay.AcceptedSecret)
	}
	cfg.BackendSecret = secret.text
	c.gateway(cfg, raw)
	switch raw.Backend {
	case builtin, gateway:
		c.unused("BACKEND_SECRET", secret.text != "")
		c.unused("BACKEND_UPDATES", cfg.BackendUpdates != nil)
	default:
		backends, err := relay.ParseBackends(raw.Backend)
		if err != nil {
			c.secretProblem("BACKEND", err.Error()+"; accepted is "+acceptedBackend)
		}
		cfg.Backends = backends
	}
}

// gateway reads what copies of a polling bot need. It is checked whether they are used or not.
func (c *checker) gateway(cfg *Config, raw environment) {
	cfg.Gateway = raw.Backend == gateway
	cfg.GatewayAddr = c.addr("GATEWAY_ADDR", raw.GatewayAddr)
	cfg.GatewayPatience = c.within("GATEWAY_PATIENCE", raw.GatewayPatience, minPatience, maxPatience, acceptedPatience)
	cfg.GatewayReplay = c.within("GATEWAY_REPLAY", raw.GatewayReplay, 0, maxReplay, acceptedReplay)
	token := c.secret("GATEWAY_TOKEN", raw.GatewayToken, raw.GatewayTokenFile)
	number, _, _ := strings.Cut(cfg.Token, ":")
	switch {
	case token.text == "":
		cfg.GatewayToken = cfg.Token
	case !tokenShape.MatchString(token.text), !cfg.Witness && !strings.HasPrefix(token.text, number+":"), token.text == cfg.Token:
		c.secretProblem(token.name, acceptedGateway)
	default:
		cfg.GatewayToken = token.text
	}
	if !cfg.Gateway {
		if token.text != "" {
			c.warn("GATEWAY_TOKEN has no effect: BACKEND is not %s", gateway)
		}
		return
	}
	for _, other := range []struct{ name, addr string }{{"HTTP_ADDR", cfg.HTTPAddr}, {"PEER_ADDR", cfg.PeerAddr}} {
		if samePort(cfg.GatewayAddr, other.addr) {
			c.problem("GATEWAY_ADDR", cfg.GatewayAddr, "another port than "+other.name+"'s, "+acceptedAddr)
		}
	}
}

// within reads a duration that has bounds.
func (c *checker) within(name, value string, least, most time.Duration, accepted string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		c.problem(name, value, accepted)
		return most
	}
	return d
}

func (c *checker) unused(name string, set bool) {
	if set {
		c.warn("%s has no effect: BACKEND names no URL", name)
	}
}

var kindShape = regexp.MustCompile(`^[a-z][a-z_]{0,63}$`)

func (c *checker) updates(value string) []string {
	var all []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if !kindShape.MatchString(part) {
			c.problem("BACKEND_UPDATES", part, acceptedUpdates)
			continue
		}
		if !slices.Contains(all, part) {
			all = append(all, part)
		}
	}
	if len(all) > maxUpdates {
		c.problem("BACKEND_UPDATES", value, acceptedUpdates)
	}
	return all
}
