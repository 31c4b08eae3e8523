// A replica's own page: what it knows of the cluster, live.

import { $, announce, cell, element, notice, rows, text } from './dom.js';
import { backends, copies } from './bots.js';
import { clock, length } from './format.js';
import { Lanes } from './lanes.js';
import { Live } from './live.js';

const lanes = new Lanes($('lanes'), { fault: (kind) => kind, mark: (kind) => kind }, () => { $('live').disabled = lanes.window === null; });
lanes.width = 600e6;
lanes.keeps = 86400e6;
let last = null;

const live = new Live('events', { frame, lost, back, full });

function full() {
  notice('lost', 'Too many pages watch this replica already. This one tries again every 10 seconds.');
}

function lost(ms) {
  $('main').classList.add('stale');
  notice('lost', `Connection to this replica lost ${length(ms * 1000)} ago: it has stopped, is frozen, or cannot be reached from here. The others may well go on. This page tries again by itself.`);
  text($('state'), 'Connection lost');
  $('state').className = 'state bad';
}

function back(ms, restarted) {
  notice('restarted', restarted ? 'This replica was restarted.' : `Connected again after ${length(ms * 1000)}.`, 8000);
}

function frame(f) {
  notice('lost', '');
  $('main').classList.remove('stale');
  lanes.apply(f);
  text($('self'), f.self);
  document.title = `habot: ${f.self}, ${f.role}`;
  text($('state'), f.verdict.text);
  $('state').className = `state ${f.verdict.state === 'answers' ? 'good' : 'bad'}`;
  if (last && last.verdict.text !== f.verdict.text) announce(f.verdict.text);
  rows('replicas', JSON.stringify(f.replicas), () => f.replicas.map((r) => element('tr', {},
    cell(r.self ? `${r.name} (this one)` : r.name), cell(r.role, { class: r.role === 'primary' ? 'good' : r.role === 'not reachable' ? 'bad' : '' }),
    cell(r.telegram, { class: r.telegram === 'reachable' || r.telegram === '-' ? '' : 'bad' }), cell(r.since ?? ''), cell(r.version))));
  text($('facts'), f.facts.join('; '));
  $('lease-row').hidden = !f.lease_ms;
  $('lease').max = f.lease_ms || 1;
  $('lease').value = Math.max(0, f.remaining_ms);
  text($('lease-words'), f.remaining_ms > 0 ? `${Math.round(f.remaining_ms)} ms of ${f.lease_ms} ms, ${f.role === 'primary' ? 'held by this one' : 'of the one that this one supports'}` : 'none');
  backends(f);
  copies(f, last);
  const problems = f.verdict.problems ?? [];
  $('problems').hidden = problems.length === 0;
  rows('problems', JSON.stringify(problems), () => problems.map((p) => element('li', {}, p)));
  const changes = [...lanes.changes.values()].slice(-100).reverse();
  $('no-changes').hidden = changes.length > 0;
  rows('changes', JSON.stringify(changes), () => changes.map((c) => element('tr', {},
    cell(`${new Date(c.at_us / 1000).toLocaleDateString()} ${clock(c.at_us)}`), cell(c.to), cell(c.from ?? '–'),
    cell(c.gap_us === undefined ? 'unknown' : length(c.gap_us), { class: c.gap_us > 0 ? 'bad' : '' }), cell(c.reason, { class: 'wide' }),
    cell(element('button', { type: 'button', 'aria-label': `Zoom to the change at ${clock(c.at_us)}`, on: { click: () => lanes.around(c.at_us, c.gap_us ?? 0) } }, 'Show')))));
  last = f;
}

$('in').addEventListener('click', () => lanes.zoom(1 / 2));
$('out').addEventListener('click', () => lanes.zoom(2));
$('live').addEventListener('click', () => lanes.show(null));
$('width').addEventListener('change', () => { lanes.width = Number($('width').value) * 1e6; lanes.show(null); });

function paint() {
  if (!last || document.hidden) return;
  const now = live.now();
  lanes.draw(now);
  const [from, to] = lanes.bounds(now);
  text($('window'), lanes.window ? `${clock(from)} to ${clock(to)}, ${length(to - from)}` : 'live');
}

setInterval(paint, 250);
addEventListener('resize', paint);
