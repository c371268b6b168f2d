// What the pages share: tables that change in place, times, and asking again and again.

import { askForToken, element, Refused, visible } from "./session.js";

export const byId = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat();

// Rewrite only cells that changed: what an operator has marked stays marked.
export function showRows(table, rows) {
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) body.append(row(table, rows[body.rows.length]));
  rows.forEach((cells, index) => cells.forEach((cell, at) => fill(body.rows[index].cells[at], cell)));
}

export function row(table, cells) {
  const heads = table.tHead.rows[0].cells;
  const made = element("tr");
  made.append(...cells.map((cell, at) => fill(element("td", "", { "data-label": heads[at].textContent }), cell)));
  return made;
}

function fill(td, cell) {
  setText(td, cell.text);
  if (td.className !== (cell.class ?? "")) td.className = cell.class ?? "";
  const title = visible(cell.title ?? "");
  if (td.title !== title) td.title = title;
  if (cell.state) td.dataset.state = cell.state;
  return td;
}

export function setText(target, text) {
  const shown = visible(text);
  if (target.textContent !== shown) target.textContent = shown;
}

// Times are UTC, as in the API, the command line and the logs; the headings say so.
export function clock(time) {
  if (!time) return { text: "–" };
  const at = new Date(time);
  const [date, hours] = at.toISOString().slice(0, -1).split("T");
  const today = date === new Date().toISOString().slice(0, 10);
  return { text: today ? hours : `${date} ${hours}`, title: time, class: "time" };
}

export function age(time) {
  return `${span(Math.max(0, (Date.now() - new Date(time)) / 1000))} ago`;
}

export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

function say(state, text) {
  const status = byId("status");
  status.dataset.state = state;
  setText(status, text);
}

// Ask again and again; `back` is called when the page was hidden and is seen again. What is returned asks at once.
export function keepAsking(poll, everyMs, back = () => {}) {
  let asked = false;
  let wake = () => {};
  const soon = () => { asked = true; wake(); };

  // A page that nobody sees asks for nothing.
  async function pause(milliseconds) {
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, milliseconds); });
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
      back();
    }
  }

  async function run() {
    let lostAt = null;
    for (;;) {
      const started = performance.now();
      asked = false;
      try {
        await poll();
        lostAt = null;
        say("live", "live");
      } catch (error) {
        if (error instanceof Refused) {
          say("waiting", "locked");
          await askForToken(error.message);
          continue;
        }
        lostAt ??= new Date();
        say("lost", `no answer since ${clock(lostAt.toISOString()).text.slice(0, -4)} UTC, trying again`);
      }
      if (!asked) await pause(Math.max(100, everyMs - (performance.now() - started)));
    }
  }

  run();
  return soon;
}
