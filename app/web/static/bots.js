// What handles updates beside habot: copies of a polling bot, or webhook backends.

import { $, announce, cell, element, rows, text } from './dom.js';
import { clock, count, length } from './format.js';

const day = (us) => new Date(us / 1000).toLocaleDateString();
// moment names the day if that is not today.
const moment = (us, digits = 0) => (us ? `${day(us) === day(Date.now() * 1000) ? '' : `${day(us)} `}${clock(us, digits)}` : '–');
// ago is in whole seconds, so that a row changes once a second.
const ago = (now, us) => (us ? `${length(Math.floor(Math.max(0, now - us) / 1e6) * 1e6).replace(/\.\d+ m?s/, ' s')} ago` : '–');

export function backends(f) {
  const b = f.backends;
  $('backends').hidden = !b;
  if (!b) return;
  $('no-backends').hidden = b.rows.length > 0;
  const table = b.rows.map((r) => [r.backend, r.address ?? '–', r.state, moment(r.since_us), count(r.in_flight), ago(f.now_us, r.answered_us), r.detail ?? '']);
  rows('backends-rows', JSON.stringify(table), () => table.map((r, i) => element('tr', {}, ...r.map((words, column) => cell(words,
    column === 2 ? { class: b.rows[i].good ? 'good' : 'bad' } : column === 6 ? { class: 'wide' } : {})))));
  text($('backends-waiting'), b.waiting > 0 ? `Updates that wait for a backend: ${count(b.waiting)}.` : 'No update waits for a backend.');
}

const roles = { active: 'good', dead: 'bad', starting: 'warn' };

export function copies(f, last) {
  const c = f.copies;
  $('copies').hidden = !c;
  if (!c) return;
  active(c, last?.copies);
  const by = c.primary === f.self ? `${c.primary}, this replica,` : c.primary;
  text($('copies-known'), !c.at_us ? 'The primary knows the copies. This replica has no answer from one yet.'
    : `Known from ${by} as primary, at ${clock(c.at_us, 0)}.${c.stale ? ' No replica is primary at the moment, or it does not answer: this may have changed since.' : ''}`);
  $('copies-known').className = c.stale ? 'warn small' : 'dim small';
  const table = c.rows.map((r) => [r.name === r.address ? r.name : `${r.name} (${r.address})`, r.role, moment(r.since_us),
    r.polling ? 'waits for updates' : r.role === 'active' ? 'handles updates' : 'does not poll', ago(f.now_us, r.asked_us), r.framework ?? '']);
  rows('copies-rows', JSON.stringify(table), () => table.map((r, i) => element('tr', {}, ...r.map((words, column) => cell(words,
    column === 1 ? { class: roles[c.rows[i].role] ?? '' } : {})))));
  const standbys = c.rows.filter((r) => r.role === 'standby').length;
  text($('copies-updates'), c.at_us ? `Standing by: ${count(standbys)}. Updates: ${count(c.pending)} wait, of which the active copy has ${count(c.in_hand)} in hand; ${count(c.kept)} are kept to be given again.` : '');
  const changes = [...c.changes].reverse();
  $('no-copies-changes').hidden = changes.length > 0 || !c.at_us;
  rows('copies-changes', JSON.stringify(changes), () => changes.map((x) => element('tr', {},
    cell(moment(x.at_us, 3)), cell(x.to), cell(x.from ?? '–'), cell(count(x.again ?? 0)), cell(x.cause, { class: 'wide' }))));
}

function active(c, before) {
  const words = c.active ? `${c.active} is active, since ${moment(c.since_us)}` : c.at_us ? `No copy is active, since ${moment(c.since_us)}` : 'Not known which copy is active';
  text($('active'), words);
  $('active').className = `state ${c.stale ? 'warn' : c.active ? 'good' : 'bad'}`;
  if (before && before.active !== c.active) announce(c.active ? `The copy ${c.active} is active.` : 'No copy is active.');
}
