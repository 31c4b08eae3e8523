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
	builtin         = "builtin"
	acceptedBackend = builtin + ", or " + relay.Accepted
	acceptedUpdates = "a comma-separated list of kinds of updates as Telegram names them, such as message,message_reaction, at most 64"
	acceptedTimeout = "a duration with its unit, 1s..10m, such as 60s"

	maxUpdates        = 64
	maxParallel       = 100
	minBackendTimeout = time.Second
	maxBackendTimeout = 10 * time.Minute
)

// backend reads who handles updates. No line shows a value of BACKEND: a URL may hold a password or a token.
func (c *checker) backend(cfg *Config, raw environment) {
	cfg.BackendParallel = c.whole("BACKEND_PARALLEL", raw.BackendParallel, 1, maxParallel)
	cfg.BackendTimeout = c.backendTimeout(raw.BackendTimeout)
	cfg.BackendUpdates = c.updates(raw.BackendUpdates)
	secret := c.secret("BACKEND_SECRET", raw.BackendSecret, raw.BackendSecretFile)
	if secret.text != "" && !relay.CheckSecret(secret.text) {
		c.secretProblem(secret.name, relay.AcceptedSecret)
	}
	cfg.BackendSecret = secret.text
	switch raw.Backend {
	case builtin:
		c.unused("BACKEND_SECRET", secret.text != "")
		c.unused("BACKEND_UPDATES", cfg.BackendUpdates != nil)
	case "gateway":
		c.secretProblem("BACKEND", "gateway is not available in this version; accepted is "+acceptedBackend)
	default:
		backends, err := relay.ParseBackends(raw.Backend)
		if err != nil {
			c.secretProblem("BACKEND", err.Error()+"; accepted is "+acceptedBackend)
		}
		cfg.Backends = backends
	}
}

func (c *checker) unused(name string, set bool) {
	if set {
		c.warn("%s has no effect: BACKEND names no URL", name)
	}
}

func (c *checker) backendTimeout(value string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < minBackendTimeout || d > maxBackendTimeout {
		c.problem("BACKEND_TIMEOUT", value, acceptedTimeout)
		return minBackendTimeout
	}
	return d
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
