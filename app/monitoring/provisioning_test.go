package monitoring_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// grafana is the service in docker-compose.yml, without comments.
func grafana(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?ms)^  grafana:\n(.*?)^(?:  )?\S`).FindStringSubmatch(read(t, "docker-compose.yml"))
	if m == nil {
		t.Fatal("docker-compose.yml has no service grafana")
	}
	return regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(m[1], "")
}

// Grafana cannot be started where this is built: nothing it needs to start may be missing, whatever else is.
func TestGrafanaNeedsNothingFromOutsideToStart(t *testing.T) {
	service := grafana(t)
	for what, pattern := range map[string]string{
		"a variable without a default": `\$\{[A-Z_]+[^:A-Z_]`, "a secret": `secrets:|__FILE`, "a plugin": `GF_INSTALL_PLUGINS|GF_PLUGINS_PREINSTALL(_SYNC)?:`, "another service": `depends_on`,
	} {
		if regexp.MustCompile(pattern).MatchString(service) {
			t.Errorf("it needs %s", what)
		}
	}
	want := map[string]string{
		"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
		// A hidden form leaves the API open to admin:admin.
		"GF_AUTH_DISABLE_LOGIN_FORM": "true", "GF_AUTH_BASIC_ENABLED": "false", "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
		"GF_ANALYTICS_CHECK_FOR_UPDATES": "false", "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
		// The image is read-only: see docker-compose.yml.
		"GF_PLUGINS_PREINSTALL_AUTO_UPDATE": "false", "GF_PLUGINS_PREINSTALL_DISABLED": "true",
	}
	for name, value := range want {
		if !regexp.MustCompile(name + `: "?` + value + `"?\n`).MatchString(service) {
			t.Errorf("%s is not %s", name, value)
		}
	}
}

// Each file that is provisioned is there, is put where Grafana looks for it, and is the only one of its kind.
func TestProvisionedFilesAreWhereGrafanaLooks(t *testing.T) {
	compose, service := read(t, "docker-compose.yml"), grafana(t)
	targets := map[string]string{}
	for _, m := range regexp.MustCompile(`- source: (\S+)\n\s+target: (\S+)\n`).FindAllStringSubmatch(service, -1) {
		file := regexp.MustCompile(`(?m)^  ` + m[1] + `:\n    file: \./(\S+)$`).FindStringSubmatch(compose)
		if file == nil {
			t.Fatalf("%s is no file", m[1])
		}
		if len(read(t, file[1])) > 500*1000 {
			t.Errorf("%s is larger than Swarm takes", file[1])
		}
		targets[m[2]] = file[1]
	}
	if targets["/etc/grafana/provisioning/datasources/prometheus.yml"] != "grafana/provisioning/datasources/prometheus.yml" ||
		targets["/etc/grafana/provisioning/dashboards/habot.yml"] != "grafana/provisioning/dashboards/habot.yml" {
		t.Errorf("provisioned are %v", targets)
	}
	home := regexp.MustCompile(`GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: (\S+)`).FindStringSubmatch(service)
	folder := regexp.MustCompile(`path: (\S+)`).FindStringSubmatch(read(t, "grafana/provisioning/dashboards/habot.yml"))
	if home == nil || folder == nil || targets[home[1]] != "grafana/dashboards/habot.json" || !strings.HasPrefix(home[1], folder[1]+"/") {
		t.Errorf("home is %v, dashboards are read from %v, there is %v", home, folder, targets)
	}
}

// Only keys that Grafana has understood for many versions.
func TestProvisioningUsesOnlyKeysOfLongStanding(t *testing.T) {
	for file, known := range map[string][]string{
		"grafana/provisioning/datasources/prometheus.yml": {
			"apiVersion", "datasources", "name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData", "timeInterval", "httpMethod",
		},
		"grafana/provisioning/dashboards/habot.yml": {
			"apiVersion", "providers", "name", "type", "disableDeletion", "allowUiUpdates", "updateIntervalSeconds", "options", "path",
		},
	} {
		for _, key := range first(`(?m)^[ -]*([A-Za-z]+):`, read(t, file)) {
			if !slices.Contains(known, key) {
				t.Errorf("%s: %s", file, key)
			}
		}
	}
	if !strings.Contains(read(t, "grafana/provisioning/dashboards/habot.yml"), "allowUiUpdates: false") {
		t.Error("the dashboard can be changed where it is lost")
	}
	// What $__rate_interval goes by is how often Prometheus really asks.
	asks := regexp.MustCompile(`(?m)^  scrape_interval: (\S+)$`).FindStringSubmatch(read(t, "prometheus/prometheus.yml"))
	if asks == nil || !strings.Contains(read(t, "grafana/provisioning/datasources/prometheus.yml"), "timeInterval: "+asks[1]+"\n") {
		t.Errorf("Prometheus asks every %v, Grafana believes otherwise", asks)
	}
}
