// The balance: from received to delivered, and what did not come, with gaps and losses on one axis of time.

import { ask, element } from "./session.js";
import { byId, clock, keepAsking, number, setText, showRows, span } from "./tables.js";

const EVERY_MS = 5000;
const MOST = 1000; // gaps, and numbers of devices
const WIDTH = 1000;
const HEIGHT = 16;
const STEPS = 200; // losses within one of these are one mark
const STATES = ["recovered", "missing", "lost"]; // the worst is drawn last
const HOUR_MS = 3_600_000;

async function poll() {
  const until = Date.now();
  const since = until - byId("span").value * HOUR_MS;
  const noticed = encodeURIComponent(new Date(since).toISOString());
  const [balance, gaps, losses] = await Promise.all([
    ask("/api/v1/balance"),
    ask(`/api/v1/gaps?order=desc&limit=${MOST}`),
    ask(`/api/v1/losses?order=desc&limit=${MOST}&since=${noticed}`),
  ]);
  byId("content").hidden = false;
  showRows(byId("received"), balance.sources.map(sourceCells));
  showRows(byId("passed"), balance.handlers.map(handlerCells));
  showRows(byId("losses"), balance.losses.map(lossCells));
  const cut = losses.next !== null || (gaps.next !== null && new Date(gaps.gaps.at(-1).since) > since);
  setText(byId("axis-note"), cut ? `Only the latest ${number.format(MOST)} gaps and numbers are drawn.` : "");
  drawAxis({ since, until }, gaps.gaps, losses.losses);
}

const count = (many, alarm) => ({ text: number.format(many), class: alarm && many ? "number alarm" : "number" });
const listed = (counts) => ({ text: Object.entries(counts).map(([name, many]) => `${name} ${number.format(many)}`).join(", ") });

function sourceCells(row) {
  return [
    { text: row.source, class: "key" }, { text: row.mode }, count(row.received), count(row.rejected, true),
    count(row.ignored), count(row.duplicate), listed(row.duplicate_kinds), count(row.stored), count(row.expired), count(row.here),
  ];
}

function handlerCells(row) {
  return [
    { text: row.handler, class: "key" }, count(row.passed), count(row.unmatched), count(row.delivered), count(row.dead, true),
    count(row.parked), count(row.skipped, true), count(row.deleted), count(row.waiting),
  ];
}

function lossCells(row) {
  return [
    { text: row.source, class: "key" }, count(row.lost, true), count(row.missing), count(row.recovered), count(row.ambiguous),
    count(row.gaps), { text: span(row.gap_seconds), class: "number" }, count(Math.round(row.suspected), true), listed(row.seen_by),
  ];
}

// A line for each source and mode that had a gap, and one for each source that has losses.
function drawAxis(range, gaps, losses) {
  const lines = new Map();
  const line = (label) => lines.get(label) ?? lines.set(label, []).get(label);
  for (const gap of gaps) {
    const until = gap.until === null ? range.until : Date.parse(gap.until);
    if (until > range.since) line(`${gap.source} ${gap.mode}`).push(gapMark(range, gap, until));
  }
  for (const state of STATES) {
    for (const [key, together] of steps(range, losses.filter((loss) => loss.state === state))) {
      line(together[0].source).push(lossMark(Number(key.split(" ")[0]), state, together));
    }
  }
  const drawn = [...lines].sort(([one], [other]) => (one < other ? -1 : 1)).flatMap(([label, marks]) => {
    const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
    picture.append(...marks);
    return [element("span", label, { class: "label" }), picture];
  });
  const ends = element("p", undefined, { class: "quiet ends" });
  for (const at of [range.since, (range.since + range.until) / 2, range.until]) {
    ends.append(element("span", clock(new Date(at).toISOString()).text.replace(/:\d\d\.\d+$/, "")));
  }
  byId("axis").replaceChildren(...(drawn.length ? drawn : [element("p", "No gap and no loss in this time.", { class: "quiet label" })]), ends);
}

function steps(range, losses) {
  const found = new Map();
  for (const loss of losses) {
    const step = Math.floor((at(range, Date.parse(loss.noticed_at)) / WIDTH) * STEPS);
    const key = `${step} ${loss.source}`;
    found.set(key, [...(found.get(key) ?? []), loss]);
  }
  return found;
}

const at = (range, time) => Math.min(Math.max((time - range.since) / (range.until - range.since), 0), 1) * WIDTH;

function gapMark(range, gap, until) {
  const x = at(range, Date.parse(gap.since));
  const title = `${gap.cause}: ${gap.since} – ${gap.until ?? "now"}, ${span(gap.seconds)}, about ${Math.round(gap.suspected)} events`;
  return mark(x, Math.max(at(range, until) - x, 2), "gap", title);
}

function lossMark(step, state, together) {
  const devices = new Set(together.map((loss) => loss.device)).size;
  const title = `${number.format(together.length)} ${state}, of ${number.format(devices)} devices: ${together.at(-1).noticed_at}`;
  return mark((step * WIDTH) / STEPS, WIDTH / STEPS, state, title);
}

function mark(x, width, kind, title) {
  const made = shape("rect", { x, width, y: 0, height: HEIGHT, class: kind });
  const said = shape("title", {});
  setText(said, title);
  made.append(said);
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

byId("span").addEventListener("change", () => poll().catch(() => {})); // the next look says what is wrong
keepAsking(poll, EVERY_MS);
