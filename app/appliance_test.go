package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Dockerfile, docker-compose.yml, .ci/run, go.mod and the code are one product. This is where they are compared.

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// one is the first group of the one place that matches.
func one(t *testing.T, pattern, text string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("%d places match %s", len(found), pattern)
	}
	return found[0][1]
}

// testedTags are the build tags of image and tests.
const testedTags = "nomsgpack,stdjson"

// What is tested is what ships: tags_test.go fails without the tags; here are the places that set them.
func TestImageTestsAndCIAreBuiltWithTheSameFlags(t *testing.T) {
	t.Parallel()
	dockerfile, ci := read(t, "Dockerfile"), read(t, ".ci/run")
	if flags := strings.Fields(one(t, `(?m)^ENV GOFLAGS="([^"]*)"`, dockerfile)); !slices.Contains(flags, "-tags="+testedTags) {
		t.Errorf("the Dockerfile's GOFLAGS are %q", flags)
	}
	if strings.Count(dockerfile, "-tags") != 1 || strings.Count(dockerfile, "GOFLAGS") != 1 {
		t.Error("the Dockerfile sets tags in more than one place")
	}
	if !strings.Contains(ci, `GOFLAGS=$(sed -n 's/^ENV GOFLAGS="\([^"]*\)".*/\1/p' Dockerfile)`) {
		t.Error(".ci/run does not take GOFLAGS from the Dockerfile")
	}
	// A -tags on the command line replaces that of GOFLAGS.
	for _, m := range regexp.MustCompile(`-tags (\S+)`).FindAllStringSubmatch(ci, -1) {
		if m[1] != `"e2e,$tags"` {
			t.Errorf(".ci/run says -tags %s", m[1])
		}
	}
	if got := one(t, `build-tags: \[(.*)\]`, read(t, ".golangci.yml")); got != "e2e, "+strings.ReplaceAll(testedTags, ",", ", ") {
		t.Errorf("the linter's tags are %s", got)
	}
}

// Commands that are there to be copied build as the image is built, too.
func TestCommandsOfDocumentsHaveTheImagesTags(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, folder := range []string{"../README.md", ".", "../grafana", "../prometheus"} {
		err := filepath.WalkDir(folder, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !slices.Contains([]string{".md", ".go"}, filepath.Ext(name)) {
				return err
			}
			for _, m := range regexp.MustCompile(`go (?:test|run|vet) .*-tags[ =](\S+)`).FindAllStringSubmatch(read(t, "app/"+name), -1) {
				commands++
				if want := "e2e," + testedTags; m[1] != want {
					t.Errorf("%s: a command has -tags %s, not %s", name, m[1], want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if commands < 20 {
		t.Errorf("only %d commands with tags were found", commands)
	}
}

func TestTheVersionIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	want := one(t, `(?m)^ARG VERSION=(\S+)$`, read(t, "Dockerfile"))
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(want) {
		t.Fatalf("VERSION is %q", want)
	}
	for _, name := range []string{"docker-compose.yml", "README.md", "app/DEPLOY.md", "app/THREE-SERVERS.md", ".ci/run"} {
		for _, m := range regexp.MustCompile(`\bhabot:(\d[\w.]*)`).FindAllStringSubmatch(read(t, name), -1) {
			if m[1] != want {
				t.Errorf("%s names habot:%s, the Dockerfile says %s", name, m[1], want)
			}
		}
	}
}

// go.mod keeps what the product imports apart from what only tests and tools do.
func TestNoToolShips(t *testing.T) {
	t.Parallel()
	mod := read(t, "go.mod")
	blocks := regexp.MustCompile(`(?s)require \(\n(.*?)\n\)`).FindAllStringSubmatch(mod, -1)
	if len(blocks) != 3 {
		t.Fatalf("go.mod has %d blocks, want the product's, the tests' and the indirect ones", len(blocks))
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{range $.Imports}}{{println .}}{{end}}{{end}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := strings.Fields(string(out))
	for i, block := range blocks[:2] {
		for line := range strings.Lines(block[1]) {
			module := strings.Fields(line)[0]
			ships := slices.ContainsFunc(imports, func(path string) bool { return path == module || strings.HasPrefix(path, module+"/") })
			if ships != (i == 0) {
				t.Errorf("%s is in block %d of go.mod; the product imports it: %t", module, i+1, ships)
			}
		}
	}
}

// Two services that build one tag can fail with "already exists", and a stack builds nothing.
func TestOneServiceBuildsTheImageOfBoth(t *testing.T) {
	t.Parallel()
	compose := read(t, "docker-compose.yml")
	if n := len(regexp.MustCompile(`(?m)^ +build:`).FindAllString(compose, -1)); n != 1 {
		t.Errorf("%d services build", n)
	}
	images := regexp.MustCompile(`(?m)^ +image: (habot:\S+)$`).FindAllStringSubmatch(compose, -1)
	if len(images) != 2 || images[0][1] != images[1][1] {
		t.Errorf("replicas and simulator run %v", images)
	}
}

// A stack reads the first document of the file, refuses some keys in it and warns of others; Compose reads both. So Compose asks
// no registry for what is built here, and hands on names of .env that are misspelt.
func TestWhatAStackRefusesStandsInASecondDocument(t *testing.T) {
	t.Parallel()
	documents := strings.Split(read(t, "docker-compose.yml"), "\n---\n")
	if len(documents) != 2 {
		t.Fatalf("%d documents", len(documents))
	}
	for _, key := range []string{"pull_policy:", "env_file:", "!reset"} {
		if strings.Contains(documents[0], key) {
			t.Errorf("a stack refuses the file for its %s", key)
		}
	}
	// "Ignoring unsupported options", prints docker stack deploy of these: docker/cli 29.8, cli/compose/types, UnsupportedProperties.
	for _, key := range []string{
		"build", "cgroupns_mode", "cgroup_parent", "devices", "domainname", "external_links", "ipc", "links", "mac_address", "network_mode", "pid",
		"privileged", "restart", "security_opt", "shm_size", "userns_mode",
	} {
		if regexp.MustCompile(`(?m)^ *` + key + `:|[{,] *` + key + `:`).MatchString(documents[0]) {
			t.Errorf("a stack warns that it ignores %s", key)
		}
	}
	if !regexp.MustCompile(`(?m)^x-compose-alone: &compose-alone\n  restart: unless-stopped\n  security_opt: \["no-new-privileges:true"\]\n`).MatchString(documents[1]) {
		t.Error("Compose neither restarts services nor keeps them from new privileges")
	}
	for _, service := range []string{"bot", "telegram", "prometheus", "grafana"} {
		if !strings.Contains(documents[1], "\n  "+service+":\n    <<: *compose-alone\n") {
			t.Errorf("%s lacks what Compose alone reads", service)
		}
	}
	if n := strings.Count(documents[1], "pull_policy: never\n"); n != strings.Count(documents[0], "image: habot:") {
		t.Errorf("%d services never ask a registry", n)
	}
	bot, telegram, _ := strings.Cut(documents[1], "\n  telegram:\n")
	if !strings.Contains(bot, "env_file: [{path: .env, required: false}]\n") {
		t.Error("replicas are not given .env")
	}
	if strings.Contains(telegram, "env_file") {
		t.Error("the simulator is given .env, and the token with it")
	}
}

// What must stay off a repository and out of an image's layers.
func TestSecretsAreIgnored(t *testing.T) {
	t.Parallel()
	for _, name := range []string{".gitignore", ".dockerignore"} {
		lines := strings.Split(read(t, name), "\n")
		for _, secret := range []string{".env", "bot_token", "docker-compose.override.yml"} {
			if !slices.Contains(lines, secret) {
				t.Errorf("%s does not list %s", name, secret)
			}
		}
	}
}

// Every service may fill neither the disk with its log nor the machine's memory.
func TestEveryServiceIsBounded(t *testing.T) {
	t.Parallel()
	compose := read(t, "docker-compose.yml")
	_, services, _ := strings.Cut(compose, "\nservices:\n")
	services, _, _ = strings.Cut(services, "\nconfigs:\n")
	all := regexp.MustCompile(`(?m)^  ([a-z]+):\n`).FindAllStringSubmatchIndex(services, -1)
	if len(all) != 4 {
		t.Fatalf("%d services", len(all))
	}
	for i, at := range all {
		end := len(services)
		if i+1 < len(all) {
			end = all[i+1][0]
		}
		text := services[at[0]:end]
		for _, want := range []string{`<<: \*hardened`, `resources:\n +limits: \{memory: \d+[MG], pids: \d+\}`} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("%s has no %s", services[at[2]:at[3]], want)
			}
		}
	}
	if !regexp.MustCompile(`(?s)&hardened\n.*?logging:\n    driver: json-file\n    options: \{max-size: \d+m, max-file: "\d"\}`).MatchString(compose) {
		t.Error("logs are not rotated")
	}
	if !strings.Contains(compose, "--storage.tsdb.retention.size=") {
		t.Error("Prometheus may fill the disk")
	}
}

// Compose publishes what is for people, on the machine's loopback alone. No port of a replica is among it: those of the gateway and of
// the other replicas are for containers.
func TestNoPortOfAReplicaIsPublished(t *testing.T) {
	t.Parallel()
	compose := read(t, "docker-compose.yml")
	_, services, _ := strings.Cut(compose, "\nservices:\n")
	services, _, _ = strings.Cut(services, "\nconfigs:\n")
	bot := one(t, `(?s)(\n  bot:\n.*?)\n  telegram:\n`, "\n"+services)
	if found := regexp.MustCompile(`(?m)^ *(- )?(ports|expose|network_mode|published|target):.*`).FindAllString(bot, -1); found != nil {
		t.Errorf("the replicas have %q", found)
	}
	published := regexp.MustCompile(`(?m)^ +ports:.*`).FindAllString(compose, -1)
	loopback := regexp.MustCompile(`^ +ports: \["127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+"\]$`)
	if len(published) != 3 {
		t.Errorf("published is %q", published)
	}
	for _, line := range published {
		if !loopback.MatchString(line) || strings.Contains(line, "8082") {
			t.Errorf("published is %q", line)
		}
	}
}
