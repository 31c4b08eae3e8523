// The playground: what the simulator sees, live, and what it can be asked for.

import { $, announce, cell, element, notice, rows, text } from './dom.js';
import { clock, count, length, perSecond } from './format.js';
import { Lanes } from './lanes.js';
import { Live } from './live.js';
import { Chat } from './chat.js';
import { post } from './control.js';
import { Plugs } from './plugs.js';

const faults = [
  ['error500', '500', 'Internal Server Error'],
  ['html502', '502 page', 'a proxy answers 502 with a page'],
  ['hang', 'hang', 'no answer while it lasts'],
  ['drop', 'hang up', 'connections are closed without an answer'],
  ['429', '429', 'too many requests'],
  ['401', '401', 'the token is refused'],
  ['409', 'a second bot polls', '409: another program polls with the same token'],
  ['webhook', 'a webhook is set', '409: updates would go to a webhook'],
  ['latency', 'latency', 'every request is carried out late'],
];
const names = new Map(faults.map(([kind, name]) => [kind, name]));
const shown = { error500: '500', html502: '502', drop: 'hung up', hang: 'hangs', taken_html502: '502', taken_drop: 'hung up' };

const words = { fault: (kind) => names.get(kind) ?? kind, mark: (kind) => shown[kind] ?? kind };
const lanes = new Lanes($('lanes'), words, () => follow(lanes, copyLanes));
const copyLanes = new Lanes($('copies-lanes'), words, () => follow(copyLanes, lanes));
const chat = new Chat(() => live.now());
const plugs = new Plugs();
let last = null; // the last frame
let shownState = '';
const past = []; // tallies of the last seconds

const live = new Live('events', { frame, lost, back, full });

// follow has the other drawing show the same window.
function follow(moved, other) {
  $('live').disabled = moved.window === null;
  other.window = moved.window;
  other.width = moved.width;
  if (last) other.draw(live.now());
}

function full() {
  notice('lost', 'Too many pages watch this simulator already. This one tries again every 10 seconds; close one of the others.');
  text($('state'), 'Not connected');
}

function lost(ms) {
  $('main').classList.add('stale');
  notice('lost', `Connection to the simulator lost ${length(ms * 1000)} ago. This page tries again by itself. Does it run? docker compose ps telegram`);
  text($('state'), 'Connection lost');
  $('state').className = 'state bad';
}

function back(ms, restarted) {
  $('main').classList.remove('stale');
  notice('lost', '');
  if (!restarted) notice('restarted', `Connected again after ${length(ms * 1000)}; nothing is missing.`, 6000);
}

function frame(f, restarted) {
  if (restarted) {
    notice('restarted', 'The simulator was restarted. Its tally and its lanes start again; updates that waited are gone.', 15000);
    chat.clear();
  }
  notice('lost', '');
  $('main').classList.remove('stale');
  lanes.apply(f);
  chat.apply(f);
  plugs.apply(f);
  for (const c of f.changes ?? []) if (last && !f.full) announce(`${c.to} polls now. ${gapOf(c)}`);
  copies(f);
  last = f;
  state(f);
  tables(f);
  tally(f);
  load(f);
  whom(f);
}

const gapOf = (c) => (c.gap_us === undefined ? c.reason : `No poll for ${length(c.gap_us)}.`);

function state(f) {
  const gap = [...lanes.gaps.values()].find((g) => !g.to_us);
  let words = 'No replica polls yet', kind = 'warn', brief = words;
  if (f.polling) [words, kind] = [`${f.poller} polls`, 'good'];
  else if (gap) [words, kind, brief] = [`No replica polls, for ${length(f.now_us - gap.from_us)}`, 'bad', 'No replica polls'];
  else if (f.poller) [words, kind] = [`${f.poller} handles updates`, 'good'];
  text($('state'), words);
  $('state').className = `state ${kind}`;
  if (kind !== 'bad') brief = words;
  else if (shownState !== brief) announce(brief);
  shownState = brief;
  document.title = `${brief}: habot playground`;
  $('no-replica').hidden = f.lanes.length > 0;
  $('lanes').hidden = f.lanes.length === 0;
}

function tables(f) {
  const changes = [...lanes.changes.values()].slice(-20).reverse();
  $('no-changes').hidden = changes.length > 0;
  rows('changes', `${f.run} ${changes.map((c) => c.id)}`, () => changes.map((c) => element('tr', {},
    cell(clock(c.at_us)), cell(c.from ?? ''), cell(c.to),
    cell(c.gap_us === undefined ? 'its poll was still open' : length(c.gap_us), { class: c.gap_us > 0 ? 'bad' : '', title: c.reason ?? '' }),
    cell(element('button', { type: 'button', 'aria-label': `Zoom to the change at ${clock(c.at_us)}`, on: { click: () => lanes.around(c.at_us, c.gap_us ?? 0) } }, 'Show')),
  )));
  const gaps = [...lanes.gaps.values()].slice(-20).reverse();
  rows('gaps', `${f.run} ${gaps.map((g) => `${g.id}:${g.to_us}`)}`, () => gaps.map((g) => element('tr', {},
    cell(clock(g.from_us)), cell(g.to_us ? length(g.to_us - g.from_us) : 'still', { class: 'bad' }), cell(g.before ?? ''), cell(g.after ?? ''),
  )));
  const polls = new Map();
  for (const s of lanes.spans.values()) polls.set(s.who, (polls.get(s.who) ?? 0) + (s.polls ?? 0));
  const open = new Set([...lanes.spans.values()].filter((s) => !s.to_us).map((s) => s.who));
  const table = f.lanes.map((l) => [l.name, open.has(l.name) ? 'polls' : 'does not poll', count(polls.get(l.name) ?? 0), `${length(Math.max(0, f.now_us - l.seen_us)).replace(/\.\d+ s/, ' s')} ago`]);
  if (!document.hidden) rows('replicas', String(Math.floor(f.now_us / 1e6)) + table.length, () => table.map((r) => element('tr', {}, ...r.map((w) => cell(w)))));
}

// copies are those behind a gateway: there is nothing to see without one.
function copies(f) {
  const c = { ...f.copies, lanes: f.copies?.lanes ?? [] };
  copyLanes.apply({ ...c, full: f.full, now_us: f.now_us });
  $('copies').hidden = c.lanes.length === 0;
  for (const change of c.changes ?? []) if (last && !f.full) announce(`The copy ${change.to} answers now.`);
  const changes = [...copyLanes.changes.values()].slice(-20).reverse();
  $('no-copies-changes').hidden = changes.length > 0;
  rows('copies-changes', `${f.run} ${changes.map((x) => x.id)}`, () => changes.map((x) => element('tr', {},
    cell(clock(x.at_us)), cell(x.from), cell(x.to),
    cell(x.gap_us === undefined ? 'not known: it answered again' : length(x.gap_us), { class: x.gap_us > 0 ? 'bad' : '' }),
    cell(element('button', { type: 'button', 'aria-label': `Zoom to the change of copy at ${clock(x.at_us)}`, on: { click: () => copyLanes.around(x.at_us, x.gap_us ?? 0) } }, 'Show')),
  )));
  const latest = new Map();
  let newest = null;
  for (const s of copyLanes.spans.values()) {
    latest.set(s.who, Math.max(latest.get(s.who) ?? 0, s.to_us));
    if (!newest || s.to_us >= newest.to_us) newest = s;
  }
  text($('copies-now'), newest ? `${newest.who} answered last.` : 'No copy has answered yet.');
  const ago = (us) => (us ? `${length(Math.max(0, f.now_us - us)).replace(/\.\d+ s/, ' s')} ago` : 'none');
  if (!document.hidden) rows('copies-tally', `${f.run} ${Math.floor(f.now_us / 1e6)} ${c.lanes.length}`, () => c.lanes.map((l) => element('tr', {},
    cell(l.name), cell(count(l.count ?? 0)), cell(ago(latest.get(l.name))), cell(ago(l.seen_us)))));
}

// numbers fills a list of terms and numbers, made once.
function numbers(id, entries) {
  const list = $(id);
  if (list.children.length !== entries.length) {
    list.replaceChildren(...entries.map(([term]) => element('div', {}, element('dt', {}, term), element('dd', {}, element('span'), element('small')))));
  }
  entries.forEach(([, value, more, bad], i) => {
    const [, dd] = list.children[i].children;
    text(dd.children[0], value);
    text(dd.children[1], more ?? '');
    list.children[i].className = bad ? 'bad' : '';
  });
}

// rate is how fast a number of the tally grew within the last five seconds.
function rate(f, name) {
  const [at, then] = past[0];
  return perSecond((f.tally[name] - then[name]) / Math.max(1, (f.now_us - at) / 1e6));
}

function tally(f) {
  const t = f.tally;
  if (f.full) past.length = 0;
  past.push([f.now_us, t]);
  while (f.now_us - past[0][0] > 5e6) past.shift();
  numbers('tally', [
    ['sent to the bot', count(t.sent), perSecond(f.sent_per_second)],
    ['answered', count(t.answered), `${perSecond(f.answered_per_second)}, commands aside`],
    ['waiting', count(t.waiting), 'for an answer'],
    ['answered twice', count(t.answered_twice), `${rate(f, 'answered_twice')}, after a crash`, t.answered_twice > 0],
    ['lost', count(t.lost), `${rate(f, 'lost')}: no answer in 30 s`, t.lost > 0],
    ['changes', count(t.changes), 'of who polls'],
    ['polls cut off', count(t.conflicts), 'with 409'],
    ['longest without a poll', length(t.longest_unpolled_seconds * 1e6), 'since the first'],
  ]);
  if (f.quantiles) {
    const q = f.quantiles, ms = (n) => (q.answers ? length(n * 1000) : '–');
    numbers('quantiles', [
      ['median', ms(q.median_ms), q.answers ? `${count(q.answers)} answers` : 'no answer yet'], ['95 %', ms(q.p95_ms)], ['99 %', ms(q.p99_ms)], ['longest', ms(q.max_ms)],
    ]);
  }
}

function load(f) {
  const l = f.load, until = l.until_us;
  $('load-stop').disabled = !until;
  text($('load-now'), until ? `${l.rate} per second for ${Math.ceil((until - f.now_us) / 1e6)} s more, then ${l.usual} per second again.`
    : `Now ${l.rate} per second. A load ends by itself.`);
}

function whom(f) {
  const select = $('fault-whom'), key = f.lanes.map((l) => l.name).join('\n');
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    const chosen = select.value;
    select.replaceChildren(element('option', { value: '' }, 'every replica'), ...f.lanes.map((l) => element('option', { value: l.name }, l.name)));
    select.value = f.lanes.some((l) => l.name === chosen) ? chosen : '';
  }
  const lasting = [...lanes.shades.values()].filter((s) => s.to_us > f.now_us);
  $('faults-end').disabled = lasting.length === 0;
  rows('faulty', `${Math.floor(f.now_us / 1e6)} ${lasting.map((s) => s.id)}`, () => lasting.map((s) => element('li', { class: 'warn' },
    `${names.get(s.kind) ?? s.kind}, ${s.who || 'every replica'}: ${Math.ceil((s.to_us - f.now_us) / 1e6)} s more`)));
  for (const b of $('faults').children) b.classList.toggle('on', lasting.some((s) => s.kind === b.value));
}

for (const [kind, name, title] of faults) {
  $('faults').append(element('button', { type: 'button', value: kind, title, on: { click: () => begin(kind, name) } }, name));
}

function begin(kind, name) {
  const seconds = $('fault-seconds'), latency = $('fault-latency');
  if (!seconds.reportValidity() || (kind === 'latency' && !latency.reportValidity())) return;
  const fault = { kind, seconds: Number(seconds.value), replica: $('fault-whom').value };
  if (kind === '429') fault.retry_after_seconds = Math.min(fault.seconds, 5);
  if (kind === 'latency') fault.latency_seconds = Number(latency.value) / 1000;
  post({ faults: [fault] }, 'fault-error').then((ok) => { if (ok) announce(`${name} begins, for ${fault.seconds} seconds`); });
}

$('faults-end').addEventListener('click', () => post({ clear_faults: true }, 'fault-error'));
$('load').addEventListener('submit', (e) => {
  e.preventDefault();
  post({ load: { rate: Number($('load-rate').value), seconds: Number($('load-seconds').value) } }, 'fault-error');
});
$('load-stop').addEventListener('click', () => post({ load: { rate: 0, seconds: 0 } }, 'fault-error'));
$('in').addEventListener('click', () => lanes.zoom(1 / 2));
$('out').addEventListener('click', () => lanes.zoom(2));
$('live').addEventListener('click', () => lanes.show(null));
$('width').addEventListener('change', () => { lanes.width = Number($('width').value) * 1e6; lanes.show(null); });

function paint() {
  if (last && !document.hidden) {
    const now = live.now();
    lanes.draw(now);
    copyLanes.draw(now);
    chat.tick();
    const [from, to] = lanes.bounds(now);
    text($('window'), lanes.window ? `${clock(from)} to ${clock(to)}, ${length(to - from)}` : 'live');
  }
}

setInterval(paint, 100);
addEventListener('resize', paint);
