package backends

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The README's versions are those that are installed.
func TestTableNamesTheVersions(t *testing.T) {
	t.Parallel()
	read := func(name string) string { return read(t, name) }
	pinned := read("python/requirements.txt") + read("node/package.json") + read("go/go.mod")
	rows := regexp.MustCompile(`(?m)^\| (\S+) \| (\d\S*) \| \[\S+\]\((\S+)\)`).FindAllStringSubmatch(read("README.md"), -1)
	if len(rows) != 9 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		name, version, file := row[1], row[2], row[3]
		found := false
		for _, line := range []string{name + "==" + version + "\n", strings.ToLower(`"` + name + `": "` + version + `"`), name + " v" + version + "\n", name + ".v4 v" + version + "\n"} {
			found = found || strings.Contains(pinned, line)
		}
		if !found {
			t.Errorf("%s %s is not what is installed", name, version)
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

// The lines in FRAMEWORKS.md are those of the bots that the tests run, in the versions that are installed.
func TestLinesOfFrameworksAreTheBots(t *testing.T) {
	t.Parallel()
	const table = "../../gateway/FRAMEWORKS.md"
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| (\d\S*) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$`).FindAllStringSubmatch(read(t, table), -1)
	bots := []struct{ file, version string }{
		{"python/poll_ptb.py", "python-telegram-bot==VERSION\n"},
		{"python/poll_ptb13.py", "python-telegram-bot==VERSION\n"},
		{"python/poll_aiogram.py", "aiogram==VERSION\n"},
		{"python/poll_pytba.py", "pyTelegramBotAPI==VERSION\n"},
		{"python/poll_pytba_async.py", "pyTelegramBotAPI==VERSION\n"},
		{"node/poll_telegraf.js", `"telegraf": "VERSION"`},
		{"node/poll_grammy.js", `"grammy": "VERSION"`},
		{"node/poll_grammy.js", `"@grammyjs/runner": "VERSION"`},
		{"node/poll_ntba.js", `"node-telegram-bot-api": "VERSION"`},
		{"node/poll_ntba0.js", `"npm:node-telegram-bot-api@VERSION"`},
		{"go/polltelego/main.go", "telego vVERSION\n"},
		{"go/polltelebot/main.go", "telebot.v4 vVERSION\n"},
		{"go/pollgotelegram/main.go", "go-telegram/bot vVERSION\n"},
		{"go/polltgbotapi/main.go", "telegram-bot-api/v5 vVERSION\n"},
	}
	if len(rows) != len(bots) {
		t.Fatalf("%d rows, %d bots", len(rows), len(bots))
	}
	pinned := read(t, "python/requirements.txt") + read(t, "python/requirements13.txt") + read(t, "node/package.json") + read(t, "go/go.mod")
	for i, row := range rows {
		if want := strings.ReplaceAll(bots[i].version, "VERSION", row[2]); !strings.Contains(pinned, want) {
			t.Errorf("%s %s is not what is installed", row[1], row[2])
		}
		// The bots have the root from their environment, under a name that their language likes.
		bot := strings.NewReplacer(`os.environ["API_ROOT"]`, "ROOT", `os.Getenv("API_ROOT")`, "ROOT", `os.Getenv("BOT_TOKEN")`, "token", "API_ROOT", "ROOT").
			Replace(read(t, bots[i].file))
		for _, cell := range row[3:5] {
			for _, code := range regexp.MustCompile("`([^`]*ROOT[^`]*)`").FindAllStringSubmatch(cell, -1) {
				if !strings.Contains(code[1], "<token>") && !strings.Contains(bot, code[1]) {
					t.Errorf("%s is not in %s", code[1], bots[i].file)
				}
			}
		}
	}
}
