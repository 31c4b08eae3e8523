// Package e2e tests and measures the appliance as its users run it: the image, Docker Compose, real
// containers, and the simulator's account as judge. Everything is behind the build tag e2e and needs
// Docker, root (to signal processes, cut networks and make packets late inside containers), and iptables.
//
//	go test -tags e2e,nomsgpack,stdjson -count=1 -v ./app/e2e    the tests, two repetitions each, and two minutes of torture
//	go test -tags e2e,nomsgpack,stdjson -count=1 -v ./app/e2e -run TestPlayground    the pages in Debian's Chromium, without Docker (-screenshots FOLDER: pictures)
//
// FIGURES.md and TORTURE.md have the commands behind figures.
//
// TestThreeServers has machines of its own: containers with an engine each, for which it needs a base image with apt.
//
// Most tests share one stack, with its ports as its users have it. Others bring stacks of their own, which
// publish no ports and so run side by side.
//
// It owns nothing of the product, and imports only the simulator's report types.
package e2e
