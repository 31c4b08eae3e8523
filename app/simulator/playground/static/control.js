// What the page asks the simulator for.

import { $, text } from './dom.js';

// post asks for something. It shows what went wrong in the element with the id, and returns whether it was done.
export async function post(control, id) {
  let wrong = '';
  try {
    const answer = await fetch('control', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(control), signal: AbortSignal.timeout(5000),
    });
    if (!answer.ok) wrong = (await answer.json()).error;
  } catch {
    wrong = 'The simulator does not answer.';
  }
  $(id).hidden = wrong === '';
  text($(id), wrong);
  return wrong === '';
}
