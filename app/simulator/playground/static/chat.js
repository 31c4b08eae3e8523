// The chat: what one of several people wrote, and what the bot made of it.

import { $, element, text } from './dom.js';
import { clock, length } from './format.js';
import { post } from './control.js';

const most = 60; // messages of a chat

// name is who made a call: a replica, and the copy of a bot that it made it for.
const name = (by) => (by.copy ? `copy ${by.copy} by ${by.who}` : by.who);

export class Chat {
  constructor(now) {
    this.now = now;
    this.chats = new Map(); // chat: (id: message)
    this.shown = new Map(); // id: what is drawn of it
    this.who = null;
    $('write').addEventListener('submit', (e) => this.send(e));
  }

  clear() {
    this.chats.clear();
    this.show();
  }

  apply(frame) {
    if (frame.full) this.chats.clear();
    if (frame.people) this.people(frame.people);
    for (const m of frame.messages ?? []) {
      const chat = this.chats.get(m.chat_id) ?? new Map();
      this.chats.set(m.chat_id, chat);
      chat.set(m.id, m);
      if (chat.size > most) chat.delete(chat.keys().next().value);
      if (!frame.full && m.chat_id === this.who) this.place(m);
    }
    if (frame.full) this.show();
    this.trim();
  }

  people(all) {
    const key = JSON.stringify(all);
    if (this.key === key) return;
    this.key = key;
    this.who = all.some((p) => p.chat_id === this.who) ? this.who : all[0].chat_id;
    const legend = $('people').firstElementChild;
    $('people').replaceChildren(legend, ...all.map((p) => element('label', { title: p.simulated ? 'writes by itself, too' : `writes as ${p.name}` },
      element('input', { type: 'radio', name: 'who', value: String(p.chat_id), checked: p.chat_id === this.who, on: { change: () => this.pick(p) } }), p.name)));
    this.pick(all.find((p) => p.chat_id === this.who));
  }

  pick(person) {
    this.who = person.chat_id;
    // One who writes by itself would have a screen reader read without end.
    $('messages').setAttribute('aria-live', person.simulated ? 'off' : 'polite');
    this.show();
  }

  // show draws the chat anew.
  show() {
    this.shown.clear();
    $('thread').replaceChildren();
    for (const m of this.chats.get(this.who)?.values() ?? []) this.place(m);
    this.trim();
    $('messages').scrollTop = $('messages').scrollHeight;
  }

  trim() {
    const chat = this.chats.get(this.who);
    for (const [id, drawn] of this.shown) {
      if (chat?.has(id)) continue;
      drawn.item.remove();
      this.shown.delete(id);
    }
    $('no-messages').hidden = this.shown.size > 0;
  }

  // place draws one message, in the place it has. What is there stays: a screen reader reads only what is new.
  place(m) {
    const list = $('messages'), atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    let drawn = this.shown.get(m.id);
    if (!drawn) {
      const meta = element('span', { class: 'meta', 'aria-live': 'off' }), badge = element('span', { class: 'meta badge' });
      const first = m.bot ? this.answer(m.text, name(m.bot), `at ${clock(m.at_us, 0)}, of its own accord`)
        : element('div', { class: 'bubble own' }, element('p', {}, m.text), meta, badge);
      drawn = { item: element('li', {}, first), meta, badge, answers: 0 };
      this.shown.set(m.id, drawn);
      $('thread').append(drawn.item);
    }
    for (const a of (m.answers ?? []).slice(drawn.answers)) {
      drawn.item.append(this.answer(a.text, name(a), `after ${length(a.at_us - m.at_us)}`, drawn.answers > 0 && m.expects));
      drawn.answers++;
    }
    text(drawn.meta, this.fate(m));
    text(drawn.badge, m.times > 1 && m.expects ? ` answered ${m.times} times` : '');
    drawn.waits = !m.bot && !m.times && !m.dropped;
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  answer(words, who, when, again) {
    return element('div', { class: again ? 'bubble again' : 'bubble' }, element('p', {}, words),
      element('span', { class: 'meta' }, `${who}, ${when}`), again ? element('span', { class: 'meta badge' }, ' answered again') : null);
  }

  fate(m) {
    const waits = length(Math.max(0, this.now() - m.at_us));
    if (m.dropped) return `dropped by Telegram: ${m.dropped}`;
    if (m.times) return `${clock(m.at_us, 0)}, polled by ${m.delivered || 'a replica that is gone'}`;
    if (m.confirmed) return m.expects ? `waits ${waits}: polled by ${m.delivered}, confirmed, not answered` : `polled by ${m.delivered}`;
    return m.delivered ? `waits ${waits}: polled by ${m.delivered}` : `waits ${waits}: not polled yet`;
  }

  // tick has the times of what waits go on.
  tick() {
    const chat = this.chats.get(this.who);
    for (const [id, drawn] of this.shown) {
      if (drawn.waits && chat?.has(id)) text(drawn.meta, this.fate(chat.get(id)));
    }
  }

  async send(e) {
    e.preventDefault();
    const field = $('text'), words = field.value;
    if (!words.trim()) return;
    if (await post({ messages: [{ chat_id: this.who, text: words }] }, 'write-error')) field.value = '';
    field.focus();
  }
}
