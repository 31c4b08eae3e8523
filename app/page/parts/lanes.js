// Lanes: one row for each replica, drawn on a canvas. The table beside it has the same for those who do not see it.

import { clock, length } from './format.js';

const least = 10e3; // the narrowest window, in microseconds
const rowHeight = 34, top = 40, axis = 26;

export class Lanes {
  // words: what a span is called, such as "polls".
  constructor(canvas, words, changedView) {
    this.canvas = canvas;
    this.words = words;
    this.changedView = changedView;
    this.keeps = 600e6; // microseconds of the past
    this.clear();
    this.width = 60e6; // of the window while it is live
    this.window = null; // [from, to] while it is not
    this.colors();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.colors());
    canvas.addEventListener('click', (e) => this.click(e));
    canvas.addEventListener('keydown', (e) => this.key(e));
  }

  clear() {
    this.names = [];
    for (const kind of ['spans', 'gaps', 'marks', 'shades', 'changes']) this[kind] = new Map();
  }

  colors() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    this.color = {};
    for (const name of ['ink', 'dim', 'line', 'bad', 'bad-soft', 'fault', 'mark', 'sheet']) this.color[name] = of(name);
    this.palette = ['lane-1', 'lane-2', 'lane-3', 'lane-4', 'lane-5'].map(of);
  }

  // apply takes in a frame; one that is full replaces all there was.
  apply(frame) {
    if (frame.full) this.clear();
    this.names = frame.lanes.map((l) => l.name);
    for (const kind of ['spans', 'gaps', 'marks', 'shades', 'changes']) {
      for (const x of frame[kind] ?? []) this[kind].set(x.id, x);
    }
    const oldest = frame.now_us - this.keeps;
    for (const kind of ['spans', 'gaps', 'shades']) {
      for (const [id, x] of this[kind]) if (x.to_us && x.to_us < oldest) this[kind].delete(id);
    }
    for (const [id, x] of this.marks) if (x.at_us < oldest) this.marks.delete(id);
    for (const id of this.changes.keys()) {
      if (this.changes.size <= 200) break;
      this.changes.delete(id); // the oldest
    }
  }

  // bounds are the window's, in microseconds.
  bounds(now) {
    return this.window ?? [now - this.width, now + this.width * 0.03];
  }

  // show moves the window; null makes it live again.
  show(window) {
    if (window) {
      const [from, to] = window;
      const half = Math.max(least, Math.min(this.keeps, to - from)) / 2, middle = (from + to) / 2;
      window = [middle - half, middle + half];
    }
    this.window = window;
    this.changedView();
    this.draw(this.now);
  }

  // zoom narrows the window around a time, or widens it.
  zoom(factor, at) {
    const [from, to] = this.bounds(this.now);
    const middle = at ?? (from + to) / 2, half = (to - from) * factor / 2;
    this.show([middle - half, middle + half]);
  }

  // around shows a time and what is near, such as a gap of a length.
  around(at, us) {
    const half = Math.max(25e3, us) * 1.5;
    this.show([at - us / 2 - half, at - us / 2 + half]);
  }

  click(e) {
    const box = this.canvas.getBoundingClientRect();
    const at = this.time(e.clientX - box.left);
    const near = this.scale ? 8 / this.scale : 0;
    for (const g of this.gaps.values()) {
      const to = g.to_us || this.now;
      if (at >= g.from_us - near && at <= to + near) {
        this.around(to, to - g.from_us);
        return;
      }
    }
    this.zoom(1 / 4, at);
  }

  key(e) {
    const [from, to] = this.bounds(this.now), step = (to - from) / 5;
    switch (e.key) {
      case '+': case '=': case 'Enter': this.zoom(1 / 2); break;
      case '-': this.zoom(2); break;
      case 'ArrowLeft': this.show([from - step, to - step]); break;
      case 'ArrowRight': this.show([from + step, to + step]); break;
      case 'Escape': case '0': this.show(null); break;
      default: return;
    }
    e.preventDefault();
  }

  time(x) { return this.from + (x - this.left) / this.scale; }
  x(us) { return this.left + (us - this.from) * this.scale; }

  draw(now) {
    this.now = now;
    const c = this.canvas, ratio = devicePixelRatio || 1;
    const width = c.clientWidth, height = top + rowHeight * Math.max(1, this.names.length) + axis;
    if (!width) return;
    if (c.width !== Math.round(width * ratio) || c.height !== Math.round(height * ratio)) {
      c.width = Math.round(width * ratio);
      c.height = Math.round(height * ratio);
      c.style.height = `${height}px`;
    }
    const g = c.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = '12px system-ui, sans-serif';
    g.textBaseline = 'middle';
    const [from, to] = this.bounds(now);
    this.left = Math.min(width * 0.34, 12 + Math.max(60, ...this.names.map((n) => g.measureText(n).width)));
    this.from = from;
    this.scale = (width - this.left - 6) / (to - from);
    this.bottom = height - axis;
    this.drawShades(g, to);
    this.drawRows(g, width, now);
    this.drawGaps(g, now, to);
    this.drawMarks(g, to);
    this.drawAxis(g, width, from, to);
  }

  bar(g, from, to, y, height, color) {
    const x1 = Math.max(this.left, this.x(from)), x2 = this.x(to);
    if (x2 < this.left || x1 > this.canvas.clientWidth) return null;
    g.fillStyle = color;
    g.fillRect(x1, y, Math.max(1, x2 - x1), height);
    return [x1, x2];
  }

  row(name) { return top + rowHeight * this.names.indexOf(name); }

  drawShades(g, end) {
    for (const s of this.shades.values()) {
      if (s.who && !this.names.includes(s.who)) continue;
      const y = s.who ? this.row(s.who) : top, height = s.who ? rowHeight : this.bottom - top;
      const drawn = this.bar(g, s.from_us, Math.min(s.to_us, end), y, height, this.color.fault);
      if (!drawn) continue;
      g.save();
      g.beginPath();
      g.rect(drawn[0], y, drawn[1] - drawn[0], height);
      g.clip();
      g.strokeStyle = this.color.mark;
      g.globalAlpha = 0.35;
      g.beginPath();
      for (let x = drawn[0] - height - (drawn[0] % 10); x < drawn[1]; x += 10) {
        g.moveTo(x, y + height);
        g.lineTo(x + height, y);
      }
      g.stroke();
      g.restore();
      g.fillStyle = this.color.ink;
      g.textAlign = 'left';
      if (drawn[1] - drawn[0] > 20) g.fillText(this.words.fault(s.kind), drawn[0] + 3, s.who ? y + 7 : this.bottom - 8, Math.max(10, drawn[1] - drawn[0] - 6));
    }
  }

  drawRows(g, width, now) {
    this.names.forEach((name, i) => {
      const y = top + rowHeight * i;
      g.strokeStyle = this.color.line;
      g.beginPath();
      g.moveTo(0, y + rowHeight - 0.5);
      g.lineTo(width, y + rowHeight - 0.5);
      g.stroke();
      g.fillStyle = this.color.ink;
      g.textAlign = 'left';
      g.fillText(name, 4, y + rowHeight / 2, this.left - 8);
    });
    for (const s of this.spans.values()) {
      const i = this.names.indexOf(s.who);
      if (i >= 0) this.bar(g, s.from_us, s.to_us || now, this.row(s.who) + 8, rowHeight - 16, this.palette[i % this.palette.length]);
    }
  }

  drawGaps(g, now, end) {
    let free = -Infinity; // where the next label may begin
    for (const gap of this.gaps.values()) {
      const to = gap.to_us || now;
      const drawn = this.bar(g, gap.from_us, to, top - 4, this.bottom - top + 4, this.color['bad-soft']);
      if (!drawn) continue;
      this.bar(g, gap.from_us, to, top - 4, 4, this.color.bad);
      free = this.label(g, (drawn[0] + drawn[1]) / 2, 26, length(to - gap.from_us), this.color.bad, free);
    }
    free = -Infinity;
    for (const c of this.changes.values()) {
      const x = this.x(c.at_us);
      if (x < this.left || c.at_us > end) continue;
      g.strokeStyle = this.color.dim;
      g.setLineDash([3, 3]);
      g.beginPath();
      g.moveTo(x, top - 6);
      g.lineTo(x, this.bottom);
      g.stroke();
      g.setLineDash([]);
      free = this.label(g, x, 9, `to ${c.to}`, this.color.dim, free);
    }
  }

  // label writes around x, unless that is over another one; it returns where the next may begin.
  label(g, x, y, words, color, free) {
    const half = g.measureText(words).width / 2 + 4;
    const at = Math.min(Math.max(x, this.left + half), this.canvas.clientWidth - half);
    if (at - half < free) return free;
    g.fillStyle = color;
    g.textAlign = 'center';
    g.fillText(words, at, y);
    return at + half;
  }

  drawMarks(g, end) {
    const free = new Map();
    for (const m of this.marks.values()) {
      const x = this.x(m.at_us);
      if (x < this.left || m.at_us > end || !this.names.includes(m.who)) continue;
      const y = this.row(m.who);
      g.fillStyle = this.color.mark;
      g.beginPath();
      g.moveTo(x - 4, y + 2);
      g.lineTo(x + 4, y + 2);
      g.lineTo(x, y + 9);
      g.fill();
      free.set(m.who, this.label(g, x, y + rowHeight - 5, this.words.mark(m.kind), this.color.ink, free.get(m.who) ?? -Infinity));
    }
  }

  drawAxis(g, width, from, to) {
    const wanted = (to - from) / Math.max(2, (width - this.left) / 110);
    const step = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 1.5e7, 3e7, 6e7, 1.2e8, 3e8, 6e8, 1.8e9, 3.6e9, 7.2e9, 1.08e10].find((s) => s >= wanted) ?? 2.16e10;
    const digits = step < 1e4 ? 3 : step < 1e5 ? 2 : step < 1e6 ? 1 : 0;
    g.fillStyle = this.color.dim;
    g.strokeStyle = this.color.line;
    let free = -Infinity;
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const x = this.x(t);
      g.beginPath();
      g.moveTo(x, top);
      g.lineTo(x, this.bottom + 4);
      g.stroke();
      free = this.label(g, x, this.bottom + 15, clock(t, digits), this.color.dim, free);
    }
  }
}
