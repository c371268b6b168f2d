// The dashboard: asks once a second, and only for what is new.

import { ask, element } from "./session.js";
import { age, byId, clock, keepAsking, number, row, setText, showRows, span } from "./tables.js";

const EVERY_MS = 1000;
const SHOWN = { gaps: 10, events: 50, rejects: 20 };
const SHORT = 160;
const COUNTS = [
  ["received", "Received"], ["stored", "Stored"], ["duplicate", "Duplicate"], ["rejected", "Rejected"],
  ["ignored", "Ignored"], ["deferred", "Deferred"], ["in_flight", "In flight"],
];

const seen = { events: 0, rejects: 0 };
let before = null;

async function poll() {
  const [sources, handlers, gaps, events, rejects] = await Promise.all([
    ask("/api/v1/sources"),
    ask("/api/v1/handlers"),
    ask(`/api/v1/gaps?order=desc&limit=${SHOWN.gaps}`),
    ask(`/api/v1/events?order=desc&limit=${SHOWN.events}&after=${seen.events}`),
    ask(`/api/v1/rejects?order=desc&limit=${SHOWN.rejects}&after=${seen.rejects}`),
  ]);
  byId("content").hidden = false;
  showCounters(sources.sources);
  showRows(byId("sources"), sources.sources.map(sourceCells));
  showRows(byId("handlers"), handlers.handlers.map(handlerCells));
  showRows(byId("gaps"), gaps.gaps.map(gapCells));
  prepend("events", events.events.map((event) => [event.position, eventCells(event)]));
  prepend("rejects", rejects.rejects.map((reject) => [reject.id, rejectCells(reject)]));
}

function showCounters(sources) {
  const sums = Object.fromEntries(COUNTS.map(([key]) => [key, 0]));
  for (const source of sources) for (const [key] of COUNTS) sums[key] += source.counts[key] ?? 0;
  const now = performance.now();
  const list = byId("counters");
  if (!list.children.length) {
    for (const [key, label] of COUNTS) {
      const tile = element("div", undefined, { class: "counter", "data-count": key });
      tile.append(element("dt", label), element("dd", ""), element("dd", "", { class: "quiet" }));
      list.append(tile);
    }
  }
  for (const [index, [key]] of COUNTS.entries()) {
    const [, value, rate] = list.children[index].children;
    setText(value, number.format(sums[key]));
    const perSecond = before && key !== "in_flight" ? ((sums[key] - before.sums[key]) * 1000) / (now - before.at) : null;
    setText(rate, perSecond === null || perSecond < 0 ? "\u00a0" : `${number.format(Math.round(perSecond))}/s`);
  }
  const { received, ...rest } = sums;
  const settled = Object.values(rest).reduce((sum, count) => sum + count, 0);
  setText(byId("balance"), received === settled
    ? "Received is the sum of the other six: every arrival has one outcome."
    : `The other six add up to ${number.format(settled)}: ${number.format(received - settled)} unaccounted for.`);
  before = { sums, at: now };
}

function sourceCells(source) {
  const count = (key) => ({ text: number.format(source.counts[key] ?? 0), class: "number" });
  const duplicates = Object.entries(source.duplicate_kinds).map(([kind, many]) => `${kind} ${many}`).join(", ");
  return [
    { text: source.source, class: "key" }, { text: source.mode }, { text: source.product },
    { text: source.reason ? `${source.state}: ${source.reason}` : source.state, state: source.state, title: `since ${source.since}` },
    { text: source.last_event_at ? age(source.last_event_at) : "never", title: source.last_event_at ?? "" },
    count("received"), count("stored"), { ...count("duplicate"), title: duplicates }, count("rejected"), count("deferred"),
  ];
}

function handlerCells(handler) {
  const count = (key, alarm) => ({ text: number.format(handler[key]), class: alarm && handler[key] ? "number alarm" : "number" });
  return [
    { text: handler.handler, class: "key" },
    { text: handler.circuit === "closed" ? handler.state : `${handler.state}, circuit ${handler.circuit}`, state: handler.state,
      title: handler.paused_because ?? handler.last_error ?? (handler.holder ? `held by ${handler.holder}` : "") },
    count("lag_events"), { text: span(handler.lag_seconds), class: "number" }, count("retries"), count("dead", true),
  ];
}

function gapCells(gap) {
  const open = gap.until === null;
  const lost = open ? "–" : number.format(Math.round(gap.suspected));
  return [
    { text: gap.source, class: "key" }, { text: gap.mode }, { text: gap.cause },
    { text: open ? "open" : "over", state: open ? "open" : "over" }, clock(gap.since), clock(gap.until),
    { text: span(gap.seconds), class: open ? "number alarm" : "number" },
    { text: lost, class: "number", title: "its length × the usual rate" },
  ];
}

function eventCells(event) {
  return [
    { text: event.name, class: "key" }, { text: event.device ?? "–", class: "code" },
    { text: shownData(event), class: "code data", title: event.content_type ?? "" },
    clock(event.published_at), clock(event.received_at), { text: event.mode, title: `source ${event.source}` },
  ];
}

function rejectCells(reject) {
  return [
    { text: reject.reason, class: "key" },
    { text: shorten(new TextDecoder().decode(bytesOf(reject.body_base64))) || "(empty)", class: "code data" },
    clock(reject.received_at), { text: reject.source }, { text: reject.mode },
  ];
}

function shownData(event) {
  if (event.data_base64 !== undefined) {
    return `${number.format(bytesOf(event.data_base64).length)} bytes: ${shorten(event.data_base64, 40)}`;
  }
  return event.data === null ? "–" : shorten(event.data);
}

function prepend(name, numbered) {
  const table = byId(name);
  const body = table.tBodies[0];
  const first = seen[name] === 0;
  body.prepend(...numbered.map(([, cells]) => {
    const made = row(table, cells);
    if (!first) made.className = "new";
    return made;
  }));
  while (body.rows.length > SHOWN[name]) body.deleteRow(-1);
  if (numbered.length) seen[name] = numbered[0][0];
}

function shorten(text, limit = SHORT) {
  const characters = Array.from(text.slice(0, 2 * limit + 2));
  return characters.length > limit ? `${characters.slice(0, limit).join("")}…` : text;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

keepAsking(poll, EVERY_MS, () => { before = null; });
