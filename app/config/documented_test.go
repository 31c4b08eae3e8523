package config_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"habot/app/config"
)

// What an operator reads and what Compose hands on keep step with what is read: this is the one place
// that compares them.

// configuration is the document with the table of variables.
const configuration = "app/config/CONFIGURATION.md"

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func variables(t *testing.T) []config.Variable {
	t.Helper()
	all, err := config.Variables()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ports are what Compose alone reads: where it publishes what on the host's loopback.
func ports() []config.Variable {
	return []config.Variable{{Name: "GRAFANA_PORT", Default: "3000"}, {Name: "SIMULATOR_PORT", Default: "8081"}, {Name: "PROMETHEUS_PORT", Default: "9090"}}
}

// inStep compares what is documented, in its order, with Variables and then what Compose alone reads.
func inStep(t *testing.T, where string, got []config.Variable) {
	t.Helper()
	want := append(variables(t), ports()...)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s lacks %s", where, want[i].Name)
		case i >= len(want):
			t.Errorf("%s has %s once too often", where, got[i].Name)
		case got[i].Name != want[i].Name:
			t.Fatalf("%s: %s stands where %s belongs", where, got[i].Name, want[i].Name)
		case got[i].Default != want[i].Default:
			t.Errorf("%s: the default of %s is %q, not %q", where, got[i].Name, want[i].Default, got[i].Default)
		}
	}
}

func TestEnvExampleShowsEveryVariableWithItsDefault(t *testing.T) {
	t.Parallel()
	assignment := regexp.MustCompile(`^#([A-Z_]+)=(.*)$`)
	var got []config.Variable
	explained := false
	for line := range strings.Lines(read(t, ".env.example")) {
		line = strings.TrimSuffix(line, "\n")
		if m := assignment.FindStringSubmatch(line); m != nil {
			got = append(got, config.Variable{Name: m[1], Default: m[2]})
			if !explained {
				t.Errorf(".env.example does not explain %s", m[1])
			}
			explained = false
			continue
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			t.Errorf(".env.example sets something: %s", line)
		}
		explained = strings.HasPrefix(line, "# ")
	}
	inStep(t, ".env.example", got)
}

// The rows are "| `NAME` | default | meaning |". Where no default is fixed, the cell may say so in words.
func TestConfigurationShowsEveryVariableWithItsDefault(t *testing.T) {
	t.Parallel()
	_, table, begun := strings.Cut(read(t, configuration), "<!-- config -->\n")
	table, _, ended := strings.Cut(table, "<!-- /config -->")
	if !begun || !ended {
		t.Fatalf("%s has no table between <!-- config --> and <!-- /config -->", configuration)
	}
	row := regexp.MustCompile("^\\| *`([A-Z_]+)` *\\| *([^|]*?) *\\| *([^|]*?) *\\|$")
	fixed := map[string]string{}
	for _, v := range append(variables(t), ports()...) {
		fixed[v.Name] = v.Default
	}
	var got []config.Variable
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		m := row.FindStringSubmatch(line)
		if m == nil {
			if strings.Contains(line, "`") {
				t.Errorf("%s: not a row of one variable: %s", configuration, line)
			}
			continue
		}
		v := config.Variable{Name: m[1], Default: strings.Trim(m[2], "`")}
		if fixed[v.Name] == "" {
			v.Default = ""
		}
		if m[3] == "" {
			t.Errorf("%s does not say what %s means", configuration, v.Name)
		}
		got = append(got, v)
	}
	inStep(t, configuration, got)
}

// environmentOf is what a service of docker-compose.yml gets, as it is written there. The file is read
// as lines: two spaces indent a service, four its keys, six the variables.
func environmentOf(t *testing.T, service string) map[string]string {
	t.Helper()
	variable := regexp.MustCompile(`^ {6}([A-Z_]+): (.*)$`)
	got := map[string]string{}
	at, in := "", false
	for line := range strings.Lines(read(t, "docker-compose.yml")) {
		line = strings.TrimRight(line, "\n")
		indent := len(line) - len(strings.TrimLeft(line, " "))
		switch m := variable.FindStringSubmatch(line); {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
		case indent <= 2:
			at, in = strings.TrimSpace(line), false
		case indent == 4:
			in = at == service+":" && strings.TrimSpace(line) == "environment:"
		case in && m != nil:
			got[m[1]] = m[2]
		}
	}
	if len(got) == 0 {
		t.Fatalf("docker-compose.yml: service %s gets no environment", service)
	}
	return got
}

// handed is how Compose hands a variable on. INSTANCES may be empty on the way: that is refused, where a default would
// hide it. So may LIFELINE_DIR: it means no lifelines.
func handed(v config.Variable) string {
	if v.Default == "" || v.Name == "INSTANCES" || v.Name == "LIFELINE_DIR" {
		return "${" + v.Name + "-" + v.Default + "}"
	}
	return "${" + v.Name + ":-" + v.Default + "}"
}

func TestComposeHandsEveryVariableToTheBot(t *testing.T) {
	t.Parallel()
	got, want := environmentOf(t, "bot"), map[string]string{}
	for _, v := range variables(t) {
		if !strings.HasPrefix(v.Name, "SIMULATOR_") {
			want[v.Name] = handed(v)
		}
	}
	want["SWARM_TASK"] = `"{{.Service.Name}}.{{.Task.Slot}}"`
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("docker-compose.yml: service bot gets %s: %s, want %s", name, got[name], want[name])
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("docker-compose.yml: service bot gets %s, which no code reads", name)
		}
	}
}

// composeProject is what Compose itself fills in; the - is for a stack, which does not.
const composeProject = "${COMPOSE_PROJECT_NAME-}"

func TestComposeHandsTheSimulatorWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	got := environmentOf(t, "telegram")
	for _, v := range variables(t) {
		// The address is fixed there: the other services are configured with it.
		want := handed(v)
		if v.Name == "SIMULATOR_PROJECT" {
			want = composeProject // Compose knows it
		}
		if strings.HasPrefix(v.Name, "SIMULATOR_") && v.Name != "SIMULATOR_ADDR" && got[v.Name] != want {
			t.Errorf("docker-compose.yml: service telegram gets %s: %s, want %s", v.Name, got[v.Name], want)
		}
	}
	if got["REPLICAS"] == "" {
		t.Error("docker-compose.yml: nothing that starts with REPLICAS=0 refuses it")
	}
	// It serves a demo: no secret is any of its business.
	for name := range got {
		if strings.Contains(name, "TOKEN") || strings.Contains(name, "SECRET") {
			t.Errorf("docker-compose.yml: service telegram gets %s", name)
		}
	}
}

// Whatever Compose takes from .env, anywhere, is a variable of ours with our default.
func TestComposeTakesNothingElseFromEnv(t *testing.T) {
	t.Parallel()
	all := append(variables(t), ports()...)
	for _, m := range regexp.MustCompile(`\$\{([A-Za-z_0-9]+)[^}]*\}`).FindAllStringSubmatch(read(t, "docker-compose.yml"), -1) {
		i := slices.IndexFunc(all, func(v config.Variable) bool { return v.Name == m[1] })
		if m[0] == composeProject {
			continue
		}
		if i < 0 {
			t.Errorf("docker-compose.yml: %s is not documented", m[0])
		} else if want := handed(all[i]); m[0] != want {
			t.Errorf("docker-compose.yml: %s, want %s", m[0], want)
		}
	}
}

// What a replica may take to stop ends before Compose, or a stack, kills it.
func TestTheGracePeriodIsThatOfCompose(t *testing.T) {
	t.Parallel()
	const key = "\n    stop_grace_period: "
	_, after, found := strings.Cut(read(t, "docker-compose.yml"), key)
	value, _, _ := strings.Cut(after, "\n")
	if !found || value != config.GracePeriod.String() {
		t.Errorf("docker-compose.yml gives a replica %q to stop, not %v", value, config.GracePeriod)
	}
}
