// Package monitoring reads what shows habot to people, and its tests hold it against the code: the dashboard
// against Grafana's own types and the usual rules for dashboards, the documents against panels, metrics and
// alerts, the metrics of a whole replica against the rules for their names. The end-to-end tests evaluate
// what it reads with a real Prometheus.
//
// It owns nothing that runs in production, and nothing of the product imports it. It may import Grafana's
// types; its tests, any room. The command picture draws a failover from what Prometheus and the simulator
// have recorded.
package monitoring
