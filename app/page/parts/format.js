// How numbers, lengths and times are written: always with their unit.

export function length(us) {
  const ms = us / 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 120000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  return s < 7200 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${(s / 3600).toFixed(1)} h`;
}

const two = (n, digits = 2) => String(n).padStart(digits, '0');

// clock is a time of this machine's zone, to the millisecond unless the digits are left out.
export function clock(us, digits = 3) {
  const d = new Date(us / 1000);
  const text = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return digits ? `${text}.${two(d.getMilliseconds(), 3).slice(0, digits)}` : text;
}

export const count = (n) => n.toLocaleString('en');

export const perSecond = (n) => `${n < 10 ? n.toFixed(1) : Math.round(n)} per second`;
