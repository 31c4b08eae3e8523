// Package e2e tests and measures the appliance as its users run it: the image, Docker Compose, real
// containers, and the simulator's account as judge. Everything is behind the build tag e2e and needs
// Docker, root (to signal processes, cut networks and make packets late inside containers), and iptables.
//
//	go test -tags e2e -count=1 -v ./app/e2e                     the tests, a few repetitions each, and two minutes of torture
//	go test -tags e2e -count=1 -v ./app/e2e -repetitions 20 -strict    the figures of FIGURES.md
//	go test -tags e2e -count=1 -v -timeout 0 ./app/e2e -run Torture -torture 1h    blow upon blow (TORTURE.md)
//	go test -tags e2e -count=1 -v ./app/e2e -run TestMany -many 3,9,25,50 -kills 9 -strict    replicas in numbers
//	go test -tags e2e -count=1 -v ./app/e2e -run TestPlayground    the pages in Debian's Chromium, without Docker (-screenshots FOLDER: pictures)
//	go test -tags e2e -count=1 -v -timeout 0 ./app/e2e -run TestLease -leases 500ms,1s    LEASEs compared (TORTURE.md)
//
// Most tests share one stack, with its ports as its users have it. Others bring stacks of their own, which
// publish no ports and so run side by side.
//
// It owns nothing of the product, and imports only the simulator's report types.
package e2e
