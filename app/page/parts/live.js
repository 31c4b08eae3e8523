// The connection to the server: frames as they come, and what the page shows while none do.

const silent = 3000; // ms without a frame, after which the connection counts as lost

export class Live {
  // on: frame(frame, restarted), lost(sinceMs), back(lostForMs), full()
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.run = null;
    this.last = performance.now();
    this.lostSince = null;
    this.open();
    setInterval(() => this.check(), 500);
  }

  open() {
    this.source?.close();
    const source = new EventSource(this.url);
    this.source = source;
    source.onmessage = (e) => this.take(JSON.parse(e.data));
    source.addEventListener('full', () => { this.full = true; this.on.full(); });
    source.onerror = () => {
      this.lose();
      // A browser does not try again where the answer was no stream.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (this.source === source) this.open(); }, 2000);
    };
  }

  take(frame) {
    const now = performance.now();
    this.last = now;
    this.offset = frame.now_us / 1000 - now; // between the server's clock and this page's, in ms
    const restarted = this.run !== null && this.run !== frame.run;
    this.run = frame.run;
    this.full = false;
    if (this.lostSince !== null) {
      const lostFor = now - this.lostSince;
      this.lostSince = null;
      this.on.back(lostFor, restarted);
    }
    this.on.frame(frame, restarted);
  }

  lose() {
    if (this.lostSince === null) this.lostSince = this.last;
  }

  check() {
    if (performance.now() - this.last > silent) this.lose();
    if (this.lostSince !== null && !this.full) {
      const since = performance.now() - this.lostSince;
      this.on.lost(since);
      // A connection that carries nothing may be one that nobody has closed.
      if (since > 10000 && performance.now() - this.last > 10000) {
        this.last = performance.now() - silent;
        this.open();
      }
    }
  }

  // now is the server's time, in microseconds. While the connection is lost it stands still.
  now() {
    const at = this.lostSince ?? performance.now();
    return ((this.offset ?? 0) + at) * 1000;
  }
}
