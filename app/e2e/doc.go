// Package e2e tests and measures the appliance as its users run it: the image, Docker Compose, real
// containers, and the simulator's account as judge. Everything is behind the build tag e2e and needs
// Docker, root (to signal processes and cut networks inside containers), and iptables.
//
//	go test -tags e2e -count=1 -v ./app/e2e                     the tests, a few repetitions each
//	go test -tags e2e -count=1 -v ./app/e2e -repetitions 20 -strict    the figures of the README
//
// It owns nothing of the product, and imports only the simulator's report types.
package e2e
