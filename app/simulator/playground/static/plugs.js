// Commands to copy, for what only Docker can do.

import { $, announce, element } from './dom.js';

// What is undone is done to the one that polled before: it is the one that was hit.
const commands = (name, before, project) => [
  [`docker kill ${name}`, 'killed: a standby polls within milliseconds'],
  [`docker start ${before}`, 'started again: it becomes a standby'],
  [`docker pause ${name}`, 'frozen: Telegram sees its poll still open, so the gap looks shorter than the half second for which messages wait'],
  [`docker unpause ${before}`, 'thawed: it finds its lease expired, and stands by'],
  [`docker network disconnect ${project}_default ${name}`, 'partitioned: as with a freeze, Telegram may see its poll still open'],
  [`docker network connect --alias bot ${project}_default ${before}`, 'back in the network'],
  [`docker stop ${name}`, 'a graceful shutdown: seamless handover'],
  [`docker compose -p ${project} exec bot /habot switchover`, 'a manual switchover'],
  [`docker compose -p ${project} restart telegram`, 'restarts this simulator'],
];

export class Plugs {
  constructor() {
    this.project = '';
    this.names = [];
    $('plug-whom').addEventListener('change', () => this.show());
  }

  apply(frame) {
    if (frame.full) this.project = frame.project ?? '';
    const names = frame.lanes.map((l) => l.name), key = `${this.project}\n${names.join('\n')}`;
    this.poller = frame.poller;
    if (frame.full) this.before = '';
    for (const c of frame.changes ?? []) this.before = c.from ?? '';
    if (key !== this.key) {
      this.key = key;
      const select = $('plug-whom'), chosen = select.value;
      select.replaceChildren(element('option', { value: '' }, 'the one that polls now'), ...names.map((n) => element('option', { value: n }, n)));
      select.value = names.includes(chosen) ? chosen : '';
    }
    this.show();
  }

  show() {
    const name = $('plug-whom').value || this.poller || '', before = $('plug-whom').value || this.before || name;
    const key = `${this.key}\n${name}\n${before}`;
    if (key === this.made) return;
    this.made = key;
    const shape = new RegExp(`^${this.project.replace(/[^a-z0-9_-]/g, '')}-[a-z0-9._-]+-\\d+$`);
    const container = this.project !== '' && shape.test(name);
    $('plug-unknown').hidden = container;
    $('plug-unknown').textContent = name === '' ? 'No replica has polled yet.'
      : `${name} is not known to be a container of a Compose project. docker compose ps lists names; put one in the place of NAME.`;
    $('plugs').replaceChildren(...commands(container ? name : 'NAME', container && shape.test(before) ? before : 'NAME', this.project || 'PROJECT').map(([command, effect]) => element('li', {},
      element('div', { class: 'row' }, element('code', {}, command),
        element('button', { type: 'button', 'aria-label': `Copy: ${command}`, on: { click: (e) => copy(command, e.currentTarget) } }, 'Copy')),
      element('span', { class: 'meta' }, effect))));
  }
}

async function copy(command, button) {
  try {
    await navigator.clipboard.writeText(command);
  } catch { // no secure context: the address is another machine's
    getSelection().selectAllChildren(button.parentElement.querySelector('code'));
    announce('Selected: copy it with the keyboard.');
    return;
  }
  button.textContent = 'Copied';
  announce(`Copied: ${command}`);
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
}
