package bot

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// telego's own HTTP client, which a benchmark compares with, closes its connections after a while only.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*Client).mCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"))
}
