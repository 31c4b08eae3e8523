// Elements made and filled without markup: what people write is text only.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'class') e.className = value;
    else if (key === 'on') for (const [event, f] of Object.entries(value)) e.addEventListener(event, f);
    else if (key in e && typeof value !== 'string') e[key] = value;
    else e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// text sets a text where it has changed, so that a screen reader is not told again.
export function text(e, value) {
  const t = String(value);
  if (e.textContent !== t) e.textContent = t;
}

export const cell = (words, properties = {}) => element('td', properties, words);

// rows replaces those of a table or list, if what they are made of has changed.
export function rows(id, key, make) {
  const body = $(id);
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  body.replaceChildren(...make());
}

const timers = {};

// notice shows a message, for a while or until it is replaced; an empty one takes it away.
export function notice(id, message, forMs) {
  clearTimeout(timers[id]);
  $(id).hidden = message === '';
  text($(id), message);
  if (forMs) timers[id] = setTimeout(() => notice(id, ''), forMs);
}

// announce has a screen reader read something out, once.
export function announce(message) {
  text($('announce'), message);
}
