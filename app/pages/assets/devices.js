// The list of devices: one page of it, asked for now and again, by the filters that the address has.

import { ask, element } from "./session.js";
import { age, byId, keepAsking, showRows } from "./tables.js";

const EVERY_MS = 5000;
const SHOWN = 100;

const form = byId("filters");
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
let after = null; // where the page begins
let next = null;
let productsKnown = false;
let wanted = 0; // counts what was asked for: an answer to an earlier question is not shown

function readAddress() {
  const filters = new URLSearchParams(location.search);
  form.elements.silent.checked = filters.get("silent") === "true";
  form.elements.missing.checked = filters.get("missing") === "true";
  const product = filters.get("product") ?? "";
  if (product && ![...form.elements.product.options].some((one) => one.value === product)) addProduct(product);
  form.elements.product.value = product;
}

function filters() {
  const chosen = new URLSearchParams();
  if (form.elements.product.value) chosen.set("product", form.elements.product.value);
  for (const name of ["silent", "missing"]) if (form.elements[name].checked) chosen.set(name, "true");
  return chosen;
}

function addProduct(name, text) {
  form.elements.product.append(element("option", text ?? name, { value: name }));
}

async function showProducts() {
  const { products } = await ask("/api/v1/products");
  const chosen = form.elements.product.value;
  while (form.elements.product.options.length > 1) form.elements.product.remove(1);
  for (const one of products) {
    addProduct(one.product, `${one.product}: ${number.format(one.devices)}, ${number.format(one.silent)} silent`);
  }
  if (chosen && !products.some((one) => one.product === chosen)) addProduct(chosen);
  form.elements.product.value = chosen;
}

async function poll() {
  if (!productsKnown) await showProducts();
  productsKnown = true;
  const asked = wanted;
  const query = filters();
  query.set("limit", SHOWN);
  query.set("order", query.has("silent") ? "heard" : "device");
  if (after) query.set("after", after);
  const page = await ask(`/api/v1/devices?${query}`);
  if (asked !== wanted) return;
  byId("content").hidden = false;
  showRows(byId("devices"), page.devices.map(deviceCells));
  next = page.next;
  byId("more").hidden = next === null;
  byId("first").hidden = after === null;
}

function deviceCells(device) {
  const count = (value, alarm) => ({ text: value === null ? "–" : number.format(value), class: alarm && value ? "number alarm" : "number" });
  const tail = device.unconfirmed;
  return [
    { text: device.device, class: "key" }, { text: device.product, title: `source ${device.source}` },
    { text: age(device.last_event), title: device.last_event },
    { text: device.silent ? `silent, ${age(device.silent).replace(/ ago$/, "")}` : "heard", state: device.silent ? "silent" : "heard",
      title: device.silent ? `since ${device.silent}` : "" },
    count(device.events_today), count(device.events_usually), { text: device.firmware ?? "–" },
    count(device.last_number), count(device.missing, true),
    { text: tail ? `behind ${tail.number}` : "–", title: tail ? `since ${tail.since}: what it sent behind it cannot be known` : "" },
  ];
}

// Ask anew from a place in the list, at once.
function show(from) {
  after = from;
  wanted += 1;
  askNow();
}

form.addEventListener("change", () => {
  const query = filters().toString();
  history.replaceState(null, "", query ? `${location.pathname}?${query}` : location.pathname);
  show(null);
});
form.addEventListener("submit", (submitted) => submitted.preventDefault());
byId("more").addEventListener("click", () => show(next));
byId("first").addEventListener("click", () => show(null));

readAddress();
const askNow = keepAsking(poll, EVERY_MS);
